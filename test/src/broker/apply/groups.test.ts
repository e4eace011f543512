import { describe, expect, test } from 'vitest'
import type { AssignedMember } from '../../../../src/broker/apply/command.ts'
import type { ApplyResult } from '../../../../src/broker/contract.ts'
import { Bench } from './support.ts'

interface Commit {
  readonly member?: string
  readonly generation?: number
  readonly seek?: boolean
  readonly offsets: readonly (readonly [queue: number, offset: number])[]
}

/** A topic with four queues of 100 messages each. */
class GroupBench {
  readonly bench: Bench
  readonly topicId: number

  private constructor(bench: Bench, topicId: number) {
    this.bench = bench
    this.topicId = topicId
  }

  static async open(): Promise<GroupBench> {
    const bench = await Bench.open()
    const topicId = bench.topic('t', 4)
    for (let queue = 0; queue < 4; queue++) bench.send({ topic: 't', queue, records: 100 })
    return new GroupBench(bench, topicId)
  }

  commit(commit: Commit): ApplyResult {
    return this.bench.command({
      kind: 'commit_offsets',
      group: 'g',
      member: commit.member ?? '',
      generation: commit.generation ?? 0,
      seek: commit.seek ?? false,
      offsets: commit.offsets.map(([queue, offset]) => ({ topicId: this.topicId, queue, offset })),
    })
  }

  assign(expectedGeneration: number, queuesByMember: Readonly<Record<string, readonly number[]>>): ApplyResult {
    const members = Object.entries(queuesByMember).map(
      ([member, queues]): AssignedMember => ({
        member,
        topics: ['t'],
        queues: queues.map((queue) => ({ topicId: this.topicId, queue })),
      }),
    )
    return this.bench.command({ kind: 'assign_group', group: 'g', expectedGeneration, members })
  }

  committed(queue: number): number | undefined {
    return this.bench.machine.committedOffset('g', this.topicId, queue)
  }
}

describe('committed offsets', () => {
  test('B5: a commit never moves back; the answer says what is committed, in the order asked', async () => {
    const group = await GroupBench.open()
    expect(group.commit({ offsets: [[0, 40]] })).toEqual({ kind: 'offsets', offsets: [40] })
    const mixed = group.commit({
      offsets: [
        [2, 7],
        [0, 39],
        [1, 0],
      ],
    })
    expect(mixed).toEqual({ kind: 'offsets', offsets: [7, 40, 0] })
    expect([0, 1, 2, 3].map((queue) => group.committed(queue))).toEqual([40, 0, 7, undefined])
  })

  test('B5: only a seek moves back, and a restart moves nothing', async () => {
    const group = await GroupBench.open()
    group.commit({ offsets: [[3, 90]] })
    await group.bench.flush()
    expect(group.commit({ seek: true, offsets: [[3, 10]] })).toEqual({ kind: 'offsets', offsets: [10] })
    await group.bench.restart()
    expect(group.committed(3)).toBe(10)
    expect(group.committed(0)).toBeUndefined()
    expect(group.commit({ offsets: [[3, 5]] })).toEqual({ kind: 'offsets', offsets: [10] })
  })

  test('an offset outside the queue refuses the whole commit, also as a seek', async () => {
    const group = await GroupBench.open()
    for (const seek of [false, true]) {
      const far: Commit = {
        seek,
        offsets: [
          [0, 50],
          [1, 101],
        ],
      }
      expect(group.commit(far)).toMatchObject({ code: 'INVALID_PARAMETER' })
      expect(group.commit({ seek, offsets: [[4, 0]] })).toMatchObject({ code: 'INVALID_PARAMETER' })
    }
    expect(group.committed(0)).toBeUndefined()
    expect(group.commit({ offsets: [[1, 100]] })).toEqual({ kind: 'offsets', offsets: [100] })
  })

  test('a topic id that is gone refuses the commit', async () => {
    const group = await GroupBench.open()
    group.bench.command({ kind: 'delete_topic', topic: 't' })
    expect(group.commit({ offsets: [[0, 1]] })).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  })

  test('groups are limited, and names that do not fit a key are refused', async () => {
    const { bench, topicId } = await GroupBench.open()
    bench.command({ kind: 'set_limits', limits: { groupsMax: 2 } })
    const commit = (group: string): ApplyResult =>
      bench.command({
        kind: 'commit_offsets',
        group,
        member: '',
        generation: 0,
        seek: false,
        offsets: [{ topicId, queue: 0, offset: 1 }],
      })
    expect(commit('')).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(commit('ä'.repeat(128))).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(commit('__proto__')).toMatchObject({ kind: 'offsets' })
    expect(commit('constructor')).toMatchObject({ kind: 'offsets' })
    expect(commit('third')).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(commit('__proto__')).toMatchObject({ kind: 'offsets' })
    await bench.flush()
    await bench.restart()
    expect(bench.machine.committedOffset('__proto__', topicId, 0)).toBe(1)
    expect(bench.machine.committedOffset('toString', topicId, 0)).toBeUndefined()
  })
})

describe('assignments', () => {
  test('an assignment counts the generation up, and only from the one it expects', async () => {
    const group = await GroupBench.open()
    expect(group.bench.machine.assignment('g')).toEqual({ generation: 0, members: [] })
    expect(group.assign(0, { a: [0, 1] })).toEqual({ kind: 'generation', generation: 1 })
    expect(group.assign(0, { b: [0, 1] })).toMatchObject({ code: 'ILLEGAL_GENERATION' })
    expect(group.assign(2, { b: [0, 1] })).toMatchObject({ code: 'ILLEGAL_GENERATION' })
    expect(group.assign(1, { a: [0], b: [1] })).toEqual({ kind: 'generation', generation: 2 })
    expect(group.bench.machine.assignment('g').members.map((member) => member.member)).toEqual(['a', 'b'])
    expect(group.bench.machine.groupsWithMembers()).toEqual(['g'])
  })

  test('a group that lost all members keeps its generation, through a restart too', async () => {
    const group = await GroupBench.open()
    group.assign(0, { a: [0] })
    group.assign(1, {})
    expect(group.bench.machine.groupsWithMembers()).toEqual([])
    await group.bench.flush()
    await group.bench.restart()
    expect(group.assign(0, { a: [0] })).toMatchObject({ code: 'ILLEGAL_GENERATION' })
    expect(group.assign(2, { a: [0] })).toEqual({ kind: 'generation', generation: 3 })
  })

  test('a queue with two owners or a member named twice is refused', async () => {
    const group = await GroupBench.open()
    expect(group.assign(0, { a: [0, 1], b: [1] })).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(group.assign(0, { '': [0] })).toMatchObject({ code: 'INVALID_PARAMETER' })
    const twice = { member: 'a', topics: [], queues: [] }
    const command = { kind: 'assign_group', group: 'g', expectedGeneration: 0, members: [twice, twice] } as const
    expect(group.bench.command(command)).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(group.bench.machine.assignment('g').generation).toBe(0)
  })

  test('only the owner of a queue may commit it, only in the current generation', async () => {
    const group = await GroupBench.open()
    group.assign(0, { a: [0, 1], b: [2] })
    expect(group.commit({ member: 'a', generation: 1, offsets: [[0, 5]] })).toMatchObject({ kind: 'offsets' })
    const refusedCommits: Commit[] = [
      { member: 'a', generation: 0, offsets: [[0, 6]] },
      { member: 'a', generation: 2, offsets: [[0, 6]] },
      { member: 'a', generation: 1, offsets: [[2, 6]] },
      {
        member: 'a',
        generation: 1,
        offsets: [
          [0, 6],
          [3, 6],
        ],
      },
      { member: 'c', generation: 1, offsets: [[0, 6]] },
      { member: 'c', generation: 1, offsets: [] },
      { member: '', generation: 1, offsets: [[0, 6]] },
      { member: '', generation: 0, seek: true, offsets: [[0, 0]] },
      { member: '__proto__', generation: 1, offsets: [[0, 6]] },
    ]
    for (const commit of refusedCommits) {
      expect(group.commit(commit), JSON.stringify(commit)).toMatchObject({ code: 'ILLEGAL_GENERATION' })
    }
    expect(group.committed(0)).toBe(5)
    group.assign(1, { b: [0, 1, 2] })
    expect(group.commit({ member: 'a', generation: 1, offsets: [[0, 6]] })).toMatchObject({
      code: 'ILLEGAL_GENERATION',
    })
    expect(group.commit({ member: 'b', generation: 2, offsets: [[0, 6]] })).toMatchObject({ kind: 'offsets' })
  })

  test('without members anyone may commit without naming one, but no member of the past may', async () => {
    const group = await GroupBench.open()
    group.assign(0, { a: [0] })
    group.assign(1, {})
    expect(group.commit({ offsets: [[0, 9]] })).toMatchObject({ kind: 'offsets' })
    for (const generation of [1, 2]) {
      const commit = group.commit({ member: 'a', generation, offsets: [[0, 10]] })
      expect(commit).toMatchObject({ code: 'ILLEGAL_GENERATION' })
    }
  })

  test('fencing works the same after a restart', async () => {
    const group = await GroupBench.open()
    group.assign(0, { 'b@2': [2, 3], 'a@1': [0, 1] })
    const before = group.bench.machine.assignment('g')
    await group.bench.flush()
    await group.bench.restart()
    expect(group.bench.machine.assignment('g')).toEqual(before)
    expect(group.commit({ member: 'a@1', generation: 1, offsets: [[1, 3]] })).toMatchObject({ kind: 'offsets' })
    const foreign = group.commit({ member: 'a@1', generation: 1, offsets: [[2, 3]] })
    expect(foreign).toMatchObject({ code: 'ILLEGAL_GENERATION' })
  })
})
