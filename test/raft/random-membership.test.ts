/** Random changes of the members under random faults: R1-R6 hold, and a healed group finds back to work. */
import { describe, expect, test } from 'vitest'
import { type Configuration, enterJoint, type MembershipTarget, membersOf, type NodeId } from '../../raft/index.ts'
import { disturb, heal, makeFaulty } from './random-support.ts'
import type { Cluster } from './support.ts'

const seeds = Array.from({ length: Number(process.env['RAFT_SEEDS'] ?? 60) }, (_, i) => i + 1)
const stepsPerSeed = 200

describe('members added, promoted, demoted, removed and replaced under random faults', () => {
  test.each(seeds)('R1 R2 R3 R4 R5 R6 hold with seed %i, and the healed group commits again', (seed) => {
    const nodes = seed % 4 === 0 ? ['n0'] : ['n0', 'n1', 'n2']
    const cluster = makeFaulty(seed, { nodes, spares: ['n3', 'n4', 'n5'] })
    for (let i = 0; i < stepsPerSeed; i++) {
      if (cluster.random() < 0.7) cluster.leaveJoint()
      if (cluster.random() < 0.25) changeMembers(cluster)
      disturb(cluster)
    }
    heal(cluster)
    const leader = () => cluster.leader() ?? 'n0'
    const configuration = () => cluster.status(leader()).configuration
    const isSimple = () => {
      cluster.leaveJoint()
      return configuration().outgoing.length === 0 && cluster.propose(leader(), 3)?.kind === 'accepted'
    }
    cluster.runUntil(isSimple, 20_000, 'a proposal in a simple configuration')
    const members = () => membersOf(configuration())
    const isEven = () => {
      // Without a leader the longest log is not known: a slow network may have cost the last one its quorum just now.
      const lastIndex = cluster.leader() === null ? null : cluster.status(leader()).lastIndex
      return members().every((id) => cluster.status(id).commit === lastIndex)
    }
    cluster.runUntil(isEven, 20_000, 'catching up')
    cluster.judge.checkLogs(cluster)
    for (const id of members()) expect(cluster.log(id)).toEqual(cluster.log(leader()))
  })
})

function changeMembers(cluster: Cluster): void {
  const id = cluster.leader() ?? cluster.ids[0] ?? ''
  if (!cluster.isUp(id) || cluster.node(id).isPaused) return
  const { configuration } = cluster.status(id)
  const dice = cluster.random()
  // Mostly what a driver would do, sometimes what it must not.
  if (dice < 0.15) cluster.change(id, { ...configuration, learners: randomTarget(cluster).learners })
  else if (dice < 0.25) cluster.change(id, { ...configuration, ...randomTarget(cluster) })
  else if (dice < 0.6) cluster.change(id, enterJoint(configuration, randomTarget(cluster)))
  else cluster.change(id, enterJoint(configuration, neighbour(cluster, configuration)))
}

function randomTarget(cluster: Cluster): MembershipTarget {
  const shuffled = cluster.ids.map((id) => ({ id, key: cluster.random() })).sort((a, b) => a.key - b.key)
  const ids = shuffled.map(({ id }) => id)
  const count = 1 + Math.floor(cluster.random() * 5)
  return { voters: ids.slice(0, count), learners: ids.slice(count, count + Math.floor(cluster.random() * 3)) }
}

/** One node more, one less, or another one in place of one. */
function neighbour(cluster: Cluster, { voters }: Configuration): MembershipTarget {
  const { random, ids } = cluster
  const outside = ids.filter((id) => !voters.includes(id))
  const next = [...voters]
  if (random() < 0.6 && next.length > 1) next.splice(Math.floor(random() * next.length), 1)
  const added: NodeId | undefined = outside[Math.floor(random() * outside.length)]
  if (random() < 0.6 && added !== undefined) next.push(added)
  return { voters: next, learners: outside.filter((id) => !next.includes(id) && random() < 0.3) }
}
