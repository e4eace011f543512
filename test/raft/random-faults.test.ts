/** Random faults over many seeds: whatever happens, R1-R6 hold, and a healed group goes on. */
import { describe, expect, test } from 'vitest'
import type { EntryMeta } from '../../raft/index.ts'
import { Cluster } from './support.ts'

const seeds = Array.from({ length: Number(process.env['RAFT_SEEDS'] ?? 60) }, (_, i) => i + 1)
const stepsPerSeed = 150

describe('random loss, repetition, reordering, partitions, pauses and crashes', () => {
  test.each(seeds)('R1 R2 R3 R4 R5 R6 hold with seed %i, and the healed group commits again', (seed) => {
    const cluster = make(seed)
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

function make(seed: number): Cluster {
  return new Cluster({
    nodes: seed % 3 === 0 ? ['n0', 'n1', 'n2', 'n3', 'n4'] : ['n0', 'n1', 'n2'],
    seed,
    learners: seed % 5 === 0 ? ['l0'] : [],
    config: {
      appendEntriesMax: 3,
      appendBytesMax: 60,
      inflightMessagesMax: 4,
      uncommittedEntriesMax: 40,
      heartbeatMs: 50,
      electionTimeoutMinMs: 150,
      electionTimeoutMaxMs: 300,
    },
    fsyncMs: (random) => (random() < 0.1 ? random() * 150 : random() * 5),
    delayMs: (random) => (random() < 0.1 ? random() * 200 : random() * 4),
  })
}

function disturb(cluster: Cluster): void {
  const { random, ids } = cluster
  const pick = () => ids[Math.floor(random() * ids.length)] as string
  const id = pick()
  const dice = random()
  if (dice < 0.4) cluster.propose(cluster.leader() ?? id, 1 + Math.floor(random() * 6))
  else if (dice < 0.45) cluster.crash(id, { survivingReadies: Math.floor(random() * 3), torn: random() < 0.5 })
  else if (dice < 0.48) cluster.kill(id)
  else if (dice < 0.6) for (const down of ids) cluster.start(down)
  else if (dice < 0.66) cluster.cut(ids.filter(() => random() < 0.5))
  else if (dice < 0.74) cluster.heal()
  else if (dice < 0.78) cluster.pause(id)
  else if (dice < 0.84) for (const paused of ids) if (cluster.node(paused).isPaused) cluster.resume(paused)
  if (dice >= 0.84 && dice < 0.87) cluster.step(id, { kind: 'campaign' })
  if (dice >= 0.87 && dice < 0.9) cluster.step(cluster.leader() ?? id, { kind: 'transfer', to: pick() })
  if (dice >= 0.9 && dice < 0.93) cluster.step(cluster.leader() ?? id, { kind: 'read_index', context: 1 })
  if (dice >= 0.93 && dice < 0.95) cluster.step(id, { kind: 'peer_lost', peer: pick() })
  if (dice >= 0.95) {
    cluster.lossRate = random() < 0.5 ? 0 : random() * 0.3
    cluster.duplicateRate = random() < 0.5 ? 0 : random() * 0.3
  }
  cluster.run(random() * (random() < 0.2 ? 400 : 30))
  cluster.judge.checkLogs(cluster)
}

function heal(cluster: Cluster): void {
  cluster.heal()
  cluster.lossRate = 0
  cluster.duplicateRate = 0
  for (const id of cluster.ids) {
    if (cluster.node(id).isPaused) cluster.resume(id)
    cluster.start(id)
  }
}
