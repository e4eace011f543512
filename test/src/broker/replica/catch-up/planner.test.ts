/** What a copy does next, for every state it can be in. */
import { describe, expect, test } from 'vitest'
import {
  type CopyProgress,
  type CopySourceView,
  mayReplace,
  type OwnReplica,
  planCopy,
  planStateEnd,
  planStateOnly,
} from '../../../../../src/broker/replica/catch-up/planner.ts'

const start = { position: 0, index: 0, term: 0, checksum: 0 }
const middle = { position: 4096, index: 50, term: 2, checksum: 7 }
const nearBytes = 1000

function view(node: string, changes: Partial<CopySourceView> = {}): CopySourceView {
  return {
    node,
    firstIndex: 51,
    origin: middle,
    lastIndex: 200,
    endPosition: 20_000,
    appliedIndex: 190,
    leads: false,
    ...changes,
  }
}

function copied(lastIndex: number, endPosition: number, stateIndex: number | null = null): CopyProgress {
  return { log: { origin: middle, lastIndex, endPosition }, stateIndex }
}

const nothing: CopyProgress = { log: null, stateIndex: null }
const own: OwnReplica = { lastIndex: 10, agrees: true }
const plan = (progress: CopyProgress, sources: readonly CopySourceView[], mine: OwnReplica = own): unknown =>
  planCopy(progress, mine, sources, nearBytes)

describe('the beginning', () => {
  test('without a source it waits', () => {
    expect(plan(nothing, [])).toMatchObject({ kind: 'wait' })
  })

  test('it begins where the first source with a state begins', () => {
    const sources = [view('a', { appliedIndex: 0 }), view('b'), view('c', { origin: start, firstIndex: 1 })]
    expect(plan(nothing, sources)).toEqual({ kind: 'begin', node: 'b', origin: middle })
  })

  test('it does not begin with a log that nobody else can continue', () => {
    const stale = view('a', { origin: start, firstIndex: 1, lastIndex: 40, appliedIndex: 40 })
    expect(plan(nothing, [stale, view('b')])).toMatchObject({ kind: 'begin', node: 'b' })
    expect(plan(nothing, [stale])).toMatchObject({ kind: 'begin', node: 'a' })
  })

  test('members without a state are no beginning', () => {
    expect(plan(nothing, [view('a', { appliedIndex: 0 })])).toMatchObject({ kind: 'wait' })
  })
})

describe('the log', () => {
  test('far from the end it is copied from the first source that has the next entry', () => {
    const sources = [view('a', { firstIndex: 90 }), view('b', { lastIndex: 80 }), view('c')]
    expect(plan(copied(80, 5000), sources)).toEqual({ kind: 'log', node: 'c', fromIndex: 81, toIndex: 200 })
  })

  test('an entry that every source has deleted ends the copy', () => {
    const sources = [view('a', { firstIndex: 90 }), view('b', { firstIndex: 100 })]
    expect(plan(copied(80, 5000), sources)).toMatchObject({ kind: 'discard' })
  })

  test('P8: replicas that are as far behind are not waited for: they would wait for this one', () => {
    const sources = [view('a', { firstIndex: 90 }), view('b', { firstIndex: 1, lastIndex: 38 })]
    expect(plan(copied(80, 5000), sources)).toMatchObject({ kind: 'discard' })
    expect(plan({ ...copied(80, 5000), stateIndex: 170 }, sources)).toMatchObject({ kind: 'discard' })
  })

  test('it must reach the state that goes with it', () => {
    const progress = copied(180, 19_500, 190)
    expect(plan(progress, [view('a')])).toEqual({ kind: 'log', node: 'a', fromIndex: 181, toIndex: 200 })
    expect(plan(progress, [view('a', { lastIndex: 180 })])).toMatchObject({ kind: 'wait' })
  })
})

describe('the state', () => {
  test('it is copied near the end of the log, from a source that is not behind its beginning', () => {
    const sources = [view('a', { appliedIndex: 49 }), view('b')]
    expect(plan(copied(195, 19_900), sources)).toEqual({ kind: 'state', node: 'b' })
    expect(plan(copied(195, 19_900), [view('a', { appliedIndex: 49 })])).toMatchObject({ kind: 'wait' })
    expect(plan(copied(195, 19_900), [view('a', { appliedIndex: 50 })])).toMatchObject({ kind: 'state' })
  })

  test('a state alone has to follow the beginning of the own log', () => {
    expect(planStateOnly(100, [view('a', { appliedIndex: 99 }), view('b')])).toEqual({ kind: 'state', node: 'b' })
    expect(planStateOnly(191, [view('a')])).toMatchObject({ kind: 'wait' })
  })

  test('a state alone comes from a member that has trimmed its log as far, if there is one', () => {
    const late = view('late', { firstIndex: 1 })
    expect(planStateOnly(50, [late, view('trimmed')])).toEqual({ kind: 'state', node: 'trimmed' })
    expect(planStateOnly(50, [late])).toEqual({ kind: 'state', node: 'late' })
  })
})

describe('putting it in force', () => {
  test('a copy that is near the end and holds its state is complete', () => {
    expect(plan(copied(195, 19_900, 190), [view('a')])).toEqual({ kind: 'install' })
  })

  test('S4: a state alone goes with a log that holds its last entry, as the own leader or a member knows it committed', () => {
    const unknown = { lastIndex: 250, committed: 50, holdsEnd: false }
    const views = [view('begins behind', { firstIndex: 191 }), view('ends before', { lastIndex: 189 }), view('a')]
    expect(planStateEnd(190, { ...unknown, committed: 190 }, null, views)).toEqual({ kind: 'install' })
    expect(planStateEnd(190, unknown, null, views)).toEqual({ kind: 'entry', node: 'a', index: 190 })
    expect(planStateEnd(190, unknown, null, views.slice(0, 2))).toMatchObject({ kind: 'wait' })
    // It gets the entry from a leader: a log that ends before it keeps nobody from leading.
    expect(planStateEnd(190, { ...unknown, lastIndex: 189 }, null, views)).toMatchObject({ kind: 'wait' })
    const end = { index: 190, term: 3 }
    expect(planStateEnd(190, { ...unknown, holdsEnd: true }, end, views)).toEqual({ kind: 'install' })
    // What the own log has in its place was never committed.
    expect(planStateEnd(190, unknown, end, views)).toMatchObject({ kind: 'wait' })
    // That was of another state.
    const other = { index: 180, term: 3 }
    expect(planStateEnd(190, { ...unknown, holdsEnd: true }, other, views)).toMatchObject({ kind: 'entry' })
  })

  test('S4: it never takes the place of a longer log, unless that one was never committed', () => {
    const progress = copied(195, 19_900, 190)
    expect(plan(progress, [view('a')], { lastIndex: 250, agrees: true })).toMatchObject({ kind: 'log' })
    expect(plan(progress, [view('a', { lastIndex: 195 })], { lastIndex: 250, agrees: true })).toMatchObject({
      kind: 'wait',
    })
    expect(plan(progress, [view('a')], { lastIndex: 250, agrees: false })).toEqual({ kind: 'install' })
  })

  test('S1: what the own log acknowledged since the copy was complete keeps it in force', () => {
    const planned = { lastIndex: 195, lastTerm: 3 }
    expect(mayReplace(200, planned, { lastIndex: 200, lastTerm: 3 })).toBe(true)
    expect(mayReplace(200, planned, { lastIndex: 201, lastTerm: 3 })).toBe(false)
    const longer = { lastIndex: 250, lastTerm: 3 }
    expect(mayReplace(200, longer, longer)).toBe(true)
    expect(mayReplace(200, longer, { lastIndex: 250, lastTerm: 4 })).toBe(false)
    expect(mayReplace(200, longer, { lastIndex: 251, lastTerm: 3 })).toBe(false)
  })
})
