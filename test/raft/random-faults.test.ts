/** Random faults over many seeds: whatever happens, R1-R6 hold, and a healed group goes on. */
import { describe, expect, test } from 'vitest'
import type { EntryMeta } from '../../raft/index.ts'
import { disturb, heal, makeFaulty } from './random-support.ts'
import { Cluster } from './support.ts'

const seeds = Array.from({ length: Number(process.env['RAFT_SEEDS'] ?? 60) }, (_, i) => i + 1)
const stepsPerSeed = 150

describe('random loss, repetition, reordering, partitions, pauses and crashes', () => {
  test.each(seeds)('R1 R2 R3 R4 R5 R6 hold with seed %i, and the healed group commits again', (seed) => {
    const nodes = seed % 3 === 0 ? ['n0', 'n1', 'n2', 'n3', 'n4'] : ['n0', 'n1', 'n2']
    const cluster = makeFaulty(seed, { nodes, learners: seed % 5 === 0 ? ['l0'] : [] })
    for (let i = 0; i < stepsPerSeed; i++) disturb(cluster)
    heal(cluster)
    const proposes = () => cluster.propose(cluster.leader() ?? 'n0', 3)?.kind === 'accepted'
    cluster.runUntil(proposes, 10_000, 'a proposal')
    const isEven = () => cluster.ids.every((id) => cluster.status(id).commit === longest(cluster))
    cluster.runUntil(isEven, 10_000, 'catching up')
    cluster.judge.checkLogs(cluster)
    for (const id of cluster.ids) expect(cluster.log(id).map(termOf)).toEqual(cluster.log('n0').map(termOf))
  })

  test('the same seed gives the same run', () => {
    const history = (seed: number) => {
      const cluster = new Cluster({ seed, delayMs: (random) => random() * 20 })
      for (let i = 0; i < 60; i++) disturb(cluster)
      return { events: cluster.events, sent: cluster.messagesSent, logs: cluster.ids.map((id) => cluster.log(id)) }
    }
    expect(history(7)).toEqual(history(7))
    expect(history(7)).not.toEqual(history(8))
  })
})

const longest = (cluster: Cluster) => Math.max(...cluster.ids.map((id) => cluster.status(id).lastIndex))
const termOf = (entry: EntryMeta) => entry.term
