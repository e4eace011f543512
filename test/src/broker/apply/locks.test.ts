/** Leases of orderly consumption: by log time, one at a time, and what is committed under them. */
import { describe, expect, test } from 'vitest'
import { leaseMsMax } from '../../../../src/broker/apply/group-changes.ts'
import { rowKinds } from '../../../../src/broker/apply/keys.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { ConsumedBench } from './consumed-support.ts'

const { outcome } = ConsumedBench

function holder(group: ConsumedBench, queue = 0): string | null {
  const { machine, time } = group.bench
  return machine.locks.holder('g', { topicId: group.topicId, queue }, time)?.member ?? null
}

describe('locking', () => {
  test('gives the owner a lease by log time, which it may renew and which never gets shorter', async () => {
    const group = await ConsumedBench.open()
    const begun = group.bench.time
    expect(group.lock([0, 1], { leaseMs: 1_000 })).toEqual({ kind: 'locks', until: [begun + 1_000, begun + 1_000] })
    group.pass(400)
    expect(group.lock([0], { leaseMs: 1_000 })).toEqual({ kind: 'locks', until: [begun + 1_400] })
    expect(group.lock([0], { leaseMs: 10 })).toEqual({ kind: 'locks', until: [begun + 1_400] })
    group.pass(999)
    expect(holder(group)).toBe('a')
    group.pass(1)
    expect(holder(group)).toBeNull()
  })

  test('waits for the lease of the owner before, to the millisecond, or until it is given back', async () => {
    const group = await ConsumedBench.open()
    group.lock([0, 1], { leaseMs: 1_000 })
    group.assign(1, { b: [0, 1] })
    const b = { member: 'b', generation: 2, leaseMs: 1_000 }
    expect(group.lock([0, 1], b)).toEqual({ kind: 'locks', until: [0, 0] })
    group.unlock([1])
    const { time } = group.bench
    expect(group.lock([0, 1], b)).toEqual({ kind: 'locks', until: [0, time + 1_000] })
    group.pass(999)
    expect(group.lock([0], b)).toEqual({ kind: 'locks', until: [0] })
    group.pass(1)
    expect(group.lock([0], b)).toEqual({ kind: 'locks', until: [group.bench.time + 1_000] })
  })

  test('is for owners of the current generation only', async () => {
    const group = await ConsumedBench.open()
    group.assign(1, { a: [0], b: [1] })
    expect(outcome(group.lock([0], { generation: 1 }))).toBe('ILLEGAL_GENERATION')
    expect(outcome(group.lock([0, 1], { generation: 2 }))).toBe('ILLEGAL_GENERATION')
    expect(holder(group)).toBeNull()
    expect(outcome(group.lock([0], { member: '', generation: 0 }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.lock([0], { generation: 2, leaseMs: 0 }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.lock([0], { generation: 2, leaseMs: leaseMsMax + 1 }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.lock([0], { generation: 2 }))).toBe('locks')
  })

  test('unlocking takes no lease of another member, nor one of a later generation that a late call does not know', async () => {
    const group = await ConsumedBench.open()
    group.lock([0])
    group.unlock([0], 'b')
    expect(holder(group)).toBe('a')
    group.assign(1, { b: [0, 1] })
    group.assign(2, { a: [0, 1] })
    group.lock([0], { generation: 3 })
    group.unlock([0], 'a', 1)
    expect(holder(group)).toBe('a')
    group.unlock([0], 'a', 3)
    expect(holder(group)).toBeNull()
  })

  test('leases go with their topic and with their group', async () => {
    const group = await ConsumedBench.open()
    group.lock([0, 1])
    expect(await group.rowCount(rowKinds.lock)).toBe(2)
    group.bench.command({ kind: 'delete_topic', topic: 't' })
    expect(await group.rowCount(rowKinds.lock)).toBe(0)
    const other = await ConsumedBench.open()
    other.lock([0, 1])
    other.assign(1, {})
    other.deleteGroup()
    expect(await other.rowCount(rowKinds.lock)).toBe(0)
  })
})

describe('commits under a lock', () => {
  test('count while the lease is in force, and are LEASE_LOST afterwards or without one', async () => {
    const group = await ConsumedBench.open()
    expect(outcome(group.commit(1, { leased: true }))).toBe('LEASE_LOST')
    group.lock([0], { leaseMs: 1_000 })
    expect(group.commit(2, { leased: true })).toEqual({ kind: 'offsets', offsets: [2] })
    group.pass(1_000)
    expect(outcome(group.commit(3, { leased: true }))).toBe('LEASE_LOST')
    expect(group.bench.machine.committedOffset('g', group.topicId, 0)).toBe(2)
    group.lock([0], { leaseMs: 1_000 })
    expect(group.commit(3, { leased: true })).toEqual({ kind: 'offsets', offsets: [3] })
  })

  test('are all or nothing', async () => {
    const group = await ConsumedBench.open()
    group.lock([0])
    const offsets = [0, 1].map((queue) => ({ topicId: group.topicId, queue, offset: 5 }))
    const committer = { group: 'g', member: 'a', generation: 1, seek: false, leased: true }
    expect(outcome(group.bench.command({ kind: 'commit_offsets', ...committer, offsets }))).toBe('LEASE_LOST')
    expect(group.bench.machine.committedOffset('g', group.topicId, 0)).toBeUndefined()
  })
})

test.each([1, 2, 3, 4, 5, 6])(
  'seed %i: never two leases in force on one queue, through rebalances and restarts',
  async (seed) => {
    const random = seededNumbers(seed)
    const upTo = (count: number): number => Math.floor(random() * count)
    const group = await ConsumedBench.open(2, 40)
    const { bench } = group
    const leases: { member: string; until: number }[] = [0, 1].map(() => ({ member: '', until: 0 }))
    let generation = 1
    let owners = ['a', 'a']
    for (let step = 0; step < 400; step++) {
      bench.time += upTo(40)
      const queue = upTo(2)
      const lease = leases[queue]!
      const member = random() < 0.7 ? owners[queue]! : random() < 0.5 ? 'a' : 'b'
      const isOwner = member === owners[queue]
      const choice = random()
      if (choice < 0.4) {
        const leaseMs = 1 + upTo(200)
        const result = group.lock([queue], { member, generation, leaseMs })
        if (!isOwner) expect(outcome(result)).toBe('ILLEGAL_GENERATION')
        else if (lease.until > bench.time && lease.member !== member)
          expect(result).toEqual({ kind: 'locks', until: [0] })
        else {
          const before = lease.until > bench.time ? lease.until : 0
          leases[queue] = { member, until: Math.max(bench.time + leaseMs, before) }
          expect(result).toEqual({ kind: 'locks', until: [leases[queue]!.until] })
        }
      } else if (choice < 0.5) {
        group.unlock([queue], member, generation)
        if (lease.member === member) leases[queue] = { member: '', until: 0 }
      } else if (choice < 0.8) {
        const holds = lease.member === member && lease.until > bench.time
        const expected = !isOwner ? 'ILLEGAL_GENERATION' : holds ? 'offsets' : 'LEASE_LOST'
        expect(outcome(group.commit(upTo(41), { queue, member, generation, leased: true }))).toBe(expected)
      } else if (choice < 0.9) {
        owners = random() < 0.5 ? ['a', 'b'] : ['b', 'a']
        group.assign(generation, { [owners[0]!]: [0], [owners[1]!]: [1] })
        generation++
      } else if (choice < 0.95) await bench.flush()
      else await bench.restart()
      for (const [at, { member: expected, until }] of leases.entries())
        expect(holder(group, at)).toBe(until > bench.time ? expected : null)
    }
    const twin = await bench.twin()
    expect(twin.machine.hash).toBe(bench.machine.hash)
  },
)
