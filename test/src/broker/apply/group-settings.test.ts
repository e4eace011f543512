/** Settings of consumer groups, seeks by an operator, and groups that are deleted. */
import { describe, expect, test } from 'vitest'
import { defaultGroupSettings, strategyIds } from '../../../../src/broker/apply/group-config.ts'
import { rowKinds } from '../../../../src/broker/apply/keys.ts'
import { ConsumedBench } from './consumed-support.ts'

const { outcome } = ConsumedBench

describe('settings', () => {
  test('a group has the defaults until it is set; what was set is there after a restart', async () => {
    const group = await ConsumedBench.open()
    const { bench } = group
    expect(bench.machine.groupSettings.get('g')).toEqual(defaultGroupSettings)
    const settings = {
      retriesMax: 3,
      retryDelaysMs: [5, 0, 70],
      ordered: true,
      strategy: 'consistent_hash',
      start: 'time',
      startTime: 9,
      paused: true,
    } as const
    group.setGroup(settings)
    await bench.flush()
    await bench.restart()
    expect(bench.machine.groupSettings.get('g')).toEqual(settings)
    expect(bench.machine.groupSettings.has('h')).toBe(false)
  })

  test.each(Object.keys(strategyIds) as (keyof typeof strategyIds)[])(
    'strategy %s survives its bytes',
    async (strategy) => {
      const group = await ConsumedBench.open()
      group.setGroup({ strategy })
      await group.bench.flush()
      await group.bench.restart()
      expect(group.bench.machine.groupSettings.get('g').strategy).toBe(strategy)
    },
  )

  test('values out of bounds and names that fit into no key are refused', async () => {
    const group = await ConsumedBench.open()
    expect(outcome(group.setGroup({ retriesMax: 1001 }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.setGroup({ retryDelaysMs: [] }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.setGroup({ retryDelaysMs: Array.from({ length: 65 }, () => 1) }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.setGroup({ retryDelaysMs: [41 * 24 * 3_600_000] }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.setGroup({}, ''))).toBe('INVALID_PARAMETER')
    expect(outcome(group.setGroup({}, 'x'.repeat(256)))).toBe('INVALID_PARAMETER')
    await group.bench.flush()
    expect(group.bench.machine.groupSettings.has('g')).toBe(false)
  })
})

describe('a seek', () => {
  const seek = (group: ConsumedBench, expectedGeneration: number, offsets: readonly number[], name = 'g'): string =>
    outcome(
      group.bench.command({
        kind: 'seek_group',
        group: name,
        expectedGeneration,
        offsets: offsets.map((offset, queue) => ({ topicId: group.topicId, queue, offset })),
      }),
    )

  test('moves the group back, and what its members consumed before does not count any more', async () => {
    const group = await ConsumedBench.open()
    group.commit(20)
    expect(seek(group, 1, [5, 0])).toBe('generation')
    expect(outcome(group.commit(30, { generation: 1 }))).toBe('ILLEGAL_GENERATION')
    expect(group.bench.machine.committedOffset('g', group.topicId, 0)).toBe(5)
    expect(group.bench.machine.assignment('g')).toMatchObject({ generation: 2, members: [{ member: 'a' }] })
    expect(outcome(group.commit(6, { generation: 2 }))).toBe('offsets')
  })

  test('is refused as a whole for another generation than that of the preview, and outside of the queue', async () => {
    const group = await ConsumedBench.open()
    group.commit(20)
    expect(seek(group, 0, [5])).toBe('ILLEGAL_GENERATION')
    expect(seek(group, 1, [5, 51])).toBe('INVALID_PARAMETER')
    expect(group.bench.machine.committedOffset('g', group.topicId, 0)).toBe(20)
    expect(group.bench.machine.assignment('g').generation).toBe(1)
  })

  test('makes a group that never consumed; a name that fits into no key is refused', async () => {
    const group = await ConsumedBench.open()
    expect(seek(group, 0, [5], 'new')).toBe('generation')
    expect(group.bench.machine.committedOffset('new', group.topicId, 0)).toBe(5)
    expect(seek(group, 0, [5], '')).toBe('INVALID_PARAMETER')
    expect(seek(group, 0, [5], 'x'.repeat(256))).toBe('INVALID_PARAMETER')
    await group.bench.flush()
  })
})

describe('deleting a group', () => {
  test('is refused while it has members and for one that nobody knows', async () => {
    const group = await ConsumedBench.open()
    expect(outcome(group.deleteGroup())).toBe('INVALID_PARAMETER')
    expect(outcome(group.bench.command({ kind: 'delete_group', group: 'h' }))).toBe('SUBSCRIPTION_GROUP_NOT_EXIST')
  })

  test('leaves no row of it, nor its retry topic; its dead letters stay', async () => {
    const group = await ConsumedBench.open()
    group.setGroup({ paused: true })
    group.lock([0])
    group.commit(1)
    group.giveBack([3])
    group.giveBack([4], {}, { kind: 'dead_letters' })
    await group.bench.flush()
    group.assign(1, {})
    expect(outcome(group.deleteGroup())).toBe('none')
    const { machine } = group.bench
    expect(machine.topicsVersion).toBe(machine.appliedIndex)
    expect([machine.topic('%RETRY%g'), machine.timers.pending]).toEqual([undefined, 0])
    expect(machine.topic('%DLQ%g')).toBeDefined()
    for (const kind of [rowKinds.groupOffsets, rowKinds.groupSettings, rowKinds.givenBack, rowKinds.lock])
      expect(await group.rowCount(kind)).toBe(0)
    expect(outcome(group.deleteGroup())).toBe('SUBSCRIPTION_GROUP_NOT_EXIST')
  })

  test('also one of which only the generation is left makes room for another', async () => {
    const group = await ConsumedBench.open()
    group.bench.command({ kind: 'set_limits', limits: { groupsMax: 1 } })
    const other = { kind: 'assign_group', group: 'h', expectedGeneration: 0, members: [] } as const
    expect(outcome(group.bench.command(other))).toBe('INVALID_PARAMETER')
    group.assign(1, {})
    expect(outcome(group.deleteGroup())).toBe('none')
    expect(outcome(group.bench.command(other))).toBe('generation')
  })

  test('a generation that it had never comes back, not even after a restart', async () => {
    const group = await ConsumedBench.open()
    group.assign(1, { a: [0] })
    group.assign(2, {})
    group.deleteGroup()
    await group.bench.flush()
    await group.bench.restart()
    expect(group.bench.machine.assignment('g').generation).toBe(0)
    expect(group.assign(0, { a: [0] })).toEqual({ kind: 'generation', generation: 4 })
    expect(outcome(group.commit(1, { generation: 1 }))).toBe('ILLEGAL_GENERATION')
  })
})
