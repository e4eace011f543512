/** What an unfit replica does about leadership, on a clock and a core that the test holds. */
import { beforeEach, describe, expect, test } from 'vitest'
import type { Input } from '../../../../raft/index.ts'
import { LeaderFitness } from '../../../../src/broker/replica/leader-fitness.ts'
import { ManualClock } from '../../../support/manual-clock.ts'

let clock: ManualClock
let inputs: Input[]
let state: { isLeader: boolean; successors: string[] }
let fitness: LeaderFitness

beforeEach(() => {
  clock = new ManualClock()
  inputs = []
  state = { isLeader: false, successors: ['n1', 'n2'] }
  fitness = new LeaderFitness({
    clock,
    patienceMs: 1000,
    step: (input) => {
      inputs.push(input)
      return { kind: 'done' }
    },
    isLeader: () => state.isLeader,
    successors: () => state.successors,
  })
})

const reluctant: Input = { kind: 'health', health: 'reluctant' }
const unable: Input = { kind: 'health', health: 'unable' }
const well: Input = { kind: 'health', health: 'well' }

describe('an unfit follower', () => {
  test('lets others stand first until it is well, and asks nobody', async () => {
    fitness.set('disk_full', true)
    fitness.set('disk_full', true)
    fitness.set('slow_disk', true)
    await clock.advance(60_000)
    expect(inputs).toEqual([reluctant])
    fitness.set('disk_full', false)
    expect(inputs).toEqual([reluctant])
    fitness.set('slow_disk', false)
    expect(inputs).toEqual([reluctant, well])
    await clock.advance(60_000)
    expect(inputs).toHaveLength(2)
  })

  test('without a state never stands, whatever else is wrong', () => {
    fitness.set('disk_full', true)
    fitness.set('no_state', true)
    fitness.set('disk_full', false)
    expect(inputs).toEqual([reluctant, unable])
    fitness.set('no_state', false)
    expect(inputs).toEqual([reluctant, unable, well])
  })
})

describe('an unfit leader', () => {
  test('asks one voter after the other, then leads on for a while and asks again', async () => {
    state.isLeader = true
    fitness.set('disk_full', true)
    expect(inputs).toEqual([reluctant, { kind: 'transfer', to: 'n1' }])
    await clock.advance(1000)
    await clock.advance(1000)
    expect(inputs.slice(2)).toEqual([{ kind: 'transfer', to: 'n2' }])
    await clock.advance(14_999)
    expect(inputs).toHaveLength(3)
    await clock.advance(1)
    expect(inputs.slice(3)).toEqual([{ kind: 'transfer', to: 'n1' }])
  })

  test('that has nobody to ask hands over as soon as somebody can lead', async () => {
    state.isLeader = true
    state.successors = []
    fitness.set('disk_full', true)
    await clock.advance(3000)
    expect(inputs).toEqual([reluctant])
    state.successors = ['n2']
    await clock.advance(1000)
    expect(inputs).toEqual([reluctant, { kind: 'transfer', to: 'n2' }])
  })

  test('that was succeeded asks nobody any more', async () => {
    state.isLeader = true
    fitness.set('disk_full', true)
    state.isLeader = false
    await clock.advance(60_000)
    expect(inputs).toHaveLength(2)
  })

  test('that became one while it was unfit hands over, too, but not at once', async () => {
    fitness.set('disk_full', true)
    state.isLeader = true
    fitness.roleChanged()
    await clock.advance(999)
    expect(inputs).toEqual([reluctant])
    await clock.advance(1)
    expect(inputs).toEqual([reluctant, { kind: 'transfer', to: 'n1' }])
  })

  test('for distress alone hands over once a minute at most, whoever gives leadership back', async () => {
    state.isLeader = true
    fitness.set('slow_disk', true)
    expect(inputs).toEqual([reluctant, { kind: 'transfer', to: 'n1' }])
    state.isLeader = false
    fitness.roleChanged()
    await clock.advance(10_000)
    state.isLeader = true
    fitness.roleChanged()
    await clock.advance(49_999)
    expect(inputs).toHaveLength(2)
    await clock.advance(1)
    expect(inputs.slice(2)).toEqual([{ kind: 'transfer', to: 'n1' }])
  })

  test('for distress asks everybody once, then rests', async () => {
    state.isLeader = true
    fitness.set('busy', true)
    await clock.advance(59_999)
    expect(inputs).toEqual([reluctant, { kind: 'transfer', to: 'n1' }, { kind: 'transfer', to: 'n2' }])
    await clock.advance(1)
    expect(inputs).toHaveLength(4)
  })

  test('a full disk does not wait for the pause of a slow one', async () => {
    state.isLeader = true
    fitness.set('slow_disk', true)
    await clock.advance(10_000)
    fitness.set('disk_full', true)
    expect(inputs.at(-1)).toEqual({ kind: 'transfer', to: 'n1' })
    expect(inputs).toHaveLength(4)
  })
})
