/**
 * Random faults together with disks that lose the end of their logs: a minority comes back quarantined, time and again,
 * while everyone reads. Whatever was committed stays, every read is current, and in the end all vote again.
 */
import { expect, test } from 'vitest'
import { smallLimits } from './random-support.ts'
import { Cluster } from './support.ts'

const seeds = Array.from({ length: Number(process.env['RAFT_SEEDS'] ?? 80) }, (_, i) => i + 1)
const stepsPerSeed = 120

const totals = { cuts: 0, ends: 0, followerReads: 0 }

test.each(seeds)('R1 R3 R5 R6: a minority that lost acknowledged entries loses none of the group, seed %i', (seed) => {
  const cluster = make(seed)
  for (let i = 0; i < stepsPerSeed; i++) disturb(cluster)
  heal(cluster)
  cluster.runUntilLed(20_000)
  const proposes = () => cluster.propose(cluster.leader() ?? 'n0', 3)?.kind === 'accepted'
  cluster.runUntil(proposes, 10_000, 'a proposal')
  const isWhole = () => cluster.ids.every((id) => cluster.status(id).quarantine === null)
  cluster.runUntil(isWhole, 10_000, 'the end of all quarantines')
  const isEven = () => cluster.ids.every((id) => cluster.status(id).commit === longest(cluster))
  cluster.runUntil(isEven, 10_000, 'catching up')
  for (const id of cluster.ids) expect(readsAgain(cluster, id)).toBe(true)
  cluster.judge.checkLogs(cluster)
  count(cluster)
})

test('the seeds above really cut logs, end quarantines and read on followers', () => {
  expect(totals.cuts).toBeGreaterThan(seeds.length)
  expect(totals.ends).toBeGreaterThan(seeds.length)
  expect(totals.followerReads).toBeGreaterThan(seeds.length * 4)
})

/** Asks anew when the leader was lost or is not known: in the end every node reads. */
function readsAgain(cluster: Cluster, id: string): boolean {
  const before = cluster.reads.length
  for (let attempt = 0; attempt < 20 && cluster.reads.length === before; attempt++) {
    cluster.read(id)
    cluster.run(400)
  }
  return cluster.reads.length > before
}

const longest = (cluster: Cluster) => Math.max(...cluster.ids.map((id) => cluster.status(id).lastIndex))

function make(seed: number): Cluster {
  return new Cluster({
    nodes: seed % 3 === 0 ? ['n0', 'n1', 'n2', 'n3', 'n4'] : ['n0', 'n1', 'n2'],
    seed,
    learners: seed % 7 === 0 ? ['l0'] : [],
    priorities: seed % 4 === 0 ? [['n2', 9]] : [],
    config: smallLimits,
    fsyncMs: (random) => (random() < 0.1 ? random() * 100 : random() * 3),
    // What an earlier run was told may arrive in a later one.
    delayMs: (random) => (random() < 0.15 ? random() * 400 : random() * 4),
  })
}

function disturb(cluster: Cluster): void {
  const { random, ids } = cluster
  const pick = () => ids[Math.floor(random() * ids.length)] as string
  const id = pick()
  const dice = random()
  if (dice < 0.35) cluster.propose(cluster.leader() ?? id, 1 + Math.floor(random() * 6))
  else if (dice < 0.5) cluster.read(id)
  else if (dice < 0.62) damage(cluster, random() < 0.3 ? (cluster.leader() ?? id) : id)
  else if (dice < 0.68) cluster.kill(id)
  else if (dice < 0.8) for (const down of ids) cluster.start(down)
  else if (dice < 0.84) cluster.cut(ids.filter(() => random() < 0.5))
  else if (dice < 0.9) cluster.heal()
  else if (dice < 0.92) cluster.pause(id)
  else if (dice < 0.95) for (const paused of ids) if (cluster.node(paused).isPaused) cluster.resume(paused)
  if (dice >= 0.95 && dice < 0.97) cluster.step(cluster.leader() ?? id, { kind: 'transfer', to: pick() })
  if (dice >= 0.97) {
    cluster.lossRate = random() < 0.5 ? 0 : random() * 0.2
    cluster.duplicateRate = random() < 0.5 ? 0 : random() * 0.4
  }
  cluster.run(random() * (random() < 0.2 ? 300 : 20))
  cluster.judge.checkLogs(cluster)
}

/** Crashes the node, takes away the end of its log, often below what it acknowledged, and starts it again. */
function damage(cluster: Cluster, id: string): void {
  const { random, ids } = cluster
  const others = ids.filter((other) => other !== id && cluster.node(other).lost.length > 0)
  if (others.length >= Math.floor((ids.length - 1) / 2)) return
  cluster.kill(id)
  const { length } = cluster.node(id).disk.entries
  cluster.cutLog(id, random() < 0.3 ? 0 : Math.max(0, length - Math.floor(random() * 8)))
  totals.cuts++
  if (random() < 0.8) cluster.start(id)
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

function count(cluster: Cluster): void {
  totals.ends += cluster.events.filter(({ event }) => event.kind === 'quarantine_ended').length
  totals.followerReads += cluster.reads.filter(({ id }) => id !== cluster.leader()).length
}
