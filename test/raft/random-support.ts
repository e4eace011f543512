/** Random faults for a `Cluster` of tests: what may happen, and how all of it ends. */
import { Cluster, type ClusterOptions } from './support.ts'

/** So small that all of them are met in a short run. */
export const smallLimits = {
  appendEntriesMax: 3,
  appendBytesMax: 60,
  inflightMessagesMax: 4,
  uncommittedEntriesMax: 40,
  heartbeatMs: 50,
  electionTimeoutMinMs: 150,
  electionTimeoutMaxMs: 300,
} as const

/** Small limits; a disk and a network that are slow now and then. */
export function makeFaulty(seed: number, members: Pick<ClusterOptions, 'nodes' | 'learners' | 'spares'>): Cluster {
  return new Cluster({
    ...members,
    seed,
    config: smallLimits,
    fsyncMs: (random) => (random() < 0.1 ? random() * 150 : random() * 5),
    delayMs: (random) => (random() < 0.1 ? random() * 200 : random() * 4),
  })
}

/** One random event, then some time. */
export function disturb(cluster: Cluster): void {
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

export function heal(cluster: Cluster): void {
  cluster.heal()
  cluster.lossRate = 0
  cluster.duplicateRate = 0
  for (const id of cluster.ids) {
    if (cluster.node(id).isPaused) cluster.resume(id)
    cluster.start(id)
  }
}
