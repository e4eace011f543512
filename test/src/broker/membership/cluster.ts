/** A group in memory whose membership changes: calls as an operator makes them, and what must hold afterwards. */
import { expect } from 'vitest'
import { toLedgerError } from '../../../../src/common/errors.ts'
import { adminMethods, type ChangeMembershipRequest, type MembershipReply } from '../../../../src/rpc/methods.ts'
import type { UnaryMethod } from '../../../../src/rpc/transport.ts'
import { eventually } from '../../../support/eventually.ts'
import { type MemoryCluster, raftAddressOf } from '../../../support/memory-cluster.ts'
import { createTopic } from '../replica/support.ts'

const hopsMax = 2000

/** Calls the leader, wherever it is: as the command line does. */
export async function callLeader<Request, Reply>(
  cluster: MemoryCluster,
  method: UnaryMethod<Request, Reply>,
  request: Request,
): Promise<Reply> {
  const endpoint = cluster.network.endpoint('operator')
  let last = toLedgerError(new Error('nobody was asked'))
  for (let hop = 0; hop < hopsMax; hop++) {
    const running = cluster.nodes.filter((node) => cluster.isRunning(node))
    const hint = last.facts.leader?.node
    const target = hint !== undefined && running.includes(hint) ? hint : running[hop % running.length]
    const channel = endpoint.connect(`${target}:30911`, 'client')
    try {
      return await channel.call(method, request, { timeoutMs: 3000 })
    } catch (error) {
      last = toLedgerError(error)
      if (!last.retryable) throw last
      await new Promise((resolve) => setTimeout(resolve, 5))
    } finally {
      channel.close()
    }
  }
  throw last
}

export function change(
  cluster: MemoryCluster,
  kind: string,
  node: string,
  rest: Partial<ChangeMembershipRequest> = {},
): Promise<MembershipReply> {
  const raftAddress = kind === 'add' ? raftAddressOf(node) : ''
  const request = { kind, node, raftAddress, learner: false, priority: 0, force: false, ...rest }
  return callLeader(cluster, adminMethods.changeMembership, request)
}

export function membership(cluster: MemoryCluster): Promise<MembershipReply> {
  return callLeader(cluster, adminMethods.getMembership, {})
}

/** Nothing is under way and exactly these vote. */
export async function voters(cluster: MemoryCluster, ...expected: readonly string[]): Promise<MembershipReply> {
  let latest: MembershipReply | null = null
  let asking = false
  return eventually(
    `the voters are ${expected.join(' ')}`,
    () => {
      if (!asking) {
        asking = true
        void membership(cluster)
          .then((reply) => {
            latest = reply
          })
          .catch(() => {})
          .finally(() => {
            asking = false
          })
      }
      const list = latest?.members.filter(({ role }) => role === 'voter').map(({ node }) => node)
      return latest?.underWay === '' && list?.join(' ') === expected.join(' ') && latest
    },
    { state: () => [latest, cluster.state()] },
  )
}

/** What is acknowledged now is on every one of these replicas, with equal logs and equal state. */
export async function expectAlike(cluster: MemoryCluster, among: readonly string[], topic: string): Promise<void> {
  await createTopic(cluster.replica(await cluster.leader(among)), topic)
  await cluster.settled(among)
  const hashes = among.map((node) => cluster.broker(node).status().stateHash)
  expect(new Set(hashes).size).toBe(1)
  for (const node of among) expect(cluster.replica(node).machine.topic(topic)).toBeDefined()
}
