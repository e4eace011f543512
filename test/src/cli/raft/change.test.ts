/** A change as the command line carries it out, while brokers of another group of the same name take over the addresses. */
import { afterEach, expect, test } from 'vitest'
import { runChange } from '../../../../src/cli/raft/change.ts'
import { RaftGroup } from '../../../../src/cli/raft/group.ts'
import { type Clock, systemClock } from '../../../../src/common/clock.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import type { Channel, Transport } from '../../../../src/rpc/transport.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { errorOf } from '../../broker/replica/support.ts'

/** For what is meant to succeed. */
const patienceMs = 60_000

const clusters: MemoryCluster[] = []

afterEach(() => {
  for (const cluster of clusters.splice(0)) cluster.end()
})

async function started(): Promise<{ readonly cluster: MemoryCluster; readonly leader: string }> {
  const cluster = new MemoryCluster()
  clusters.push(cluster)
  await cluster.start()
  return { cluster, leader: await cluster.leader() }
}

/** Calls reach the cluster that has the addresses at that moment. */
function moving(owner: (method: string) => MemoryCluster | Promise<MemoryCluster>): Transport {
  return {
    connect: (address, purpose): Channel => ({
      address,
      call: async (method, request, options) => {
        const channel = (await owner(method.name)).network.endpoint('operator').connect(address, purpose)
        try {
          return await channel.call(method, request, options)
        } finally {
          channel.close()
        }
      },
      open: () => {
        throw new Error('no streams here')
      },
      close: () => {},
    }),
    listen: () => Promise.reject(new Error('listens to nobody')),
  }
}

const request = { kind: 'priority', node: 'n1', raftAddress: '', learner: false, priority: 7, force: false }

test('a change is made only in the group whose members were read before it', async () => {
  const [mine, other] = await Promise.all([started(), started()])
  const transport = moving((method) => (method === 'GetMembership' ? mine.cluster : other.cluster))
  const group = new RaftGroup({ clock: systemClock, transport }, [`${mine.leader}:30911`])
  const options = { timeoutMs: patienceMs, wait: true, say: () => {} }
  expect(await errorOf(runChange(group, systemClock, request, options))).toMatchObject({ code: 'FOREIGN_GROUP' })
  expect(other.cluster.replica(other.leader).history.newest.index).toBe(0)
  // Leadership may move by itself on a busy machine, but not every time.
  for (let before = '', after = '', attempts = 1; before === '' || after !== before; attempts++) {
    expect(attempts).toBeLessThan(10)
    before = await other.cluster.leader()
    expect(await errorOf(group.transferLeadership('n1', patienceMs))).toMatchObject({ code: 'FOREIGN_GROUP' })
    after = await other.cluster.leader()
  }
})

test('the members of another group that has taken over the addresses are not taken for those of the first', async () => {
  const [mine, other] = await Promise.all([started(), started()])
  let owner = mine.cluster
  const group = new RaftGroup({ clock: systemClock, transport: moving(() => owner) }, [`${mine.leader}:30911`])
  const { incarnation } = await group.membership(patienceMs)
  owner = other.cluster
  expect(await errorOf(group.membership(patienceMs))).toMatchObject({
    code: 'FOREIGN_GROUP',
    message: expect.stringContaining(`not ${incarnation} as before`),
  })
})

/** A clock on which every wait is over at the next turn. */
function hasty(): Clock {
  let nowMs = 0
  const after: Clock['after'] = (ms, callback) => {
    nowMs += ms
    return systemClock.after(0, callback)
  }
  return { ...systemClock, monotonicMs: () => nowMs, after }
}

const add = { kind: 'add', node: 'n3', raftAddress: 'n3:30912', learner: false, priority: 0, force: false }

test('a node that does not answer is told as such, once, with what to do, and changes nothing', async () => {
  const { cluster, leader } = await started()
  let asked = 0
  const transport = moving((method) => {
    if (method === 'ChangeMembership') asked++
    return cluster
  })
  const clock = hasty()
  const group = new RaftGroup({ clock, transport }, [`${leader}:30911`])
  const error = await errorOf(runChange(group, clock, add, { timeoutMs: 60_000, wait: true, say: () => {} }))
  expect(error).toMatchObject({ code: 'NODE_UNREACHABLE', stored: 'no' })
  expect(error.message).toMatch(/^n3 does not answer at n3:30912: /)
  expect(error.hint).toContain('--join')
  // It might just be starting: seconds, not minutes.
  expect(asked).toBeGreaterThan(5)
  expect(clock.monotonicMs()).toBeLessThan(4000)
  expect(cluster.replica(leader).history.newest.index).toBe(0)
})

test('a node that begins to answer a moment later is added', async () => {
  const { cluster, leader } = await started()
  let asked = 0
  const transport = moving(async (method) => {
    if (method === 'ChangeMembership' && ++asked === 2) {
      cluster.addMachine('n3')
      await cluster.startWith('n3', cluster.joining('n3'))
    }
    return cluster
  })
  const group = new RaftGroup({ clock: systemClock, transport }, [`${leader}:30911`])
  const { membership: reply } = await runChange(group, systemClock, add, {
    timeoutMs: patienceMs,
    wait: true,
    say: () => {},
  })
  expect(reply.members.find(({ node }) => node === 'n3')?.role).toBe('voter')
  expect(asked).toBe(2)
})

test('a change that is followed to its end is done when its own group says so', async () => {
  const { cluster, leader } = await started()
  const group = new RaftGroup({ clock: systemClock, transport: moving(() => cluster) }, [`${leader}:30911`])
  const { membership: reply, changed } = await runChange(group, systemClock, request, {
    timeoutMs: patienceMs,
    wait: true,
    say: () => {},
  })
  expect(changed).toBe(true)
  expect(reply.members.find(({ node }) => node === 'n1')?.priority).toBe(7)
})

/** Answers to `method` that come after `after` of them get lost on their way, as it is without a quorum. */
function losing(cluster: MemoryCluster, method: string, error: LedgerError, after = 0): Transport {
  let count = 0
  return moving((name) => {
    if (name === method && count++ >= after) throw error
    return cluster
  })
}

const noQuorum = new LedgerError('NO_QUORUM', 'no quorum confirmed the leader in time')
const quiet = { timeoutMs: 3000, wait: true, say: () => {} }

test('a change whose answer got lost has an unknown outcome while nobody can tell', async () => {
  const { cluster, leader } = await started()
  const late = new LedgerError('DEADLINE_EXCEEDED', 'too late')
  const [blind, mute] = [losing(cluster, 'GetMembership', noQuorum, 1), losing(cluster, 'ChangeMembership', late)]
  const transport: Transport = { ...blind, connect: (address, purpose) => both(blind, mute, address, purpose) }
  const group = new RaftGroup({ clock: hasty(), transport }, [`${leader}:30911`])
  const error = await errorOf(runChange(group, hasty(), { ...request, kind: 'remove', force: true }, quiet))
  expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
  expect(error.hint).toContain('ledgermq raft status')
  expect(error.message).toMatch(/^remove n1 may have begun \(too late\).*look with `ledgermq raft members`/)
})

function both(
  read: Transport,
  write: Transport,
  address: string,
  purpose: Parameters<Transport['connect']>[1],
): Channel {
  const [reads, writes] = [read.connect(address, purpose), write.connect(address, purpose)]
  return {
    ...reads,
    call: (method, request, options) =>
      (method.name === 'ChangeMembership' ? writes : reads).call(method, request, options),
  }
}

test('a change that was begun is told as begun when its end cannot be seen', async () => {
  const { cluster, leader } = await started()
  const group = new RaftGroup({ clock: hasty(), transport: losing(cluster, 'GetMembership', noQuorum, 1) }, [
    `${leader}:30911`,
  ])
  const node = cluster.nodes.find((each) => each !== leader) as string
  const error = await errorOf(runChange(group, hasty(), { ...request, kind: 'remove', node }, quiet))
  expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN', stored: 'unknown' })
  expect(error.message).toMatch(/^remove n\d was begun, .*look with `ledgermq raft members`/)
})

test('what is so already is no change', async () => {
  const { cluster, leader } = await started()
  const group = new RaftGroup({ clock: systemClock, transport: moving(() => cluster) }, [`${leader}:30911`])
  const { changed } = await runChange(group, systemClock, { ...request, kind: 'promote' }, quiet)
  expect(changed).toBe(false)
})

test('who waits for a leader in vain learns how long he waited, not how long the last attempt did', async () => {
  const { cluster, leader } = await started()
  const transport = losing(cluster, 'GetMembership', new LedgerError('NO_QUORUM', 'no leader was found within 123 ms'))
  const group = new RaftGroup({ clock: hasty(), transport }, [`${leader}:30911`])
  const error = await errorOf(group.membership(8000))
  expect(error).toMatchObject({ code: 'NO_QUORUM', message: expect.stringContaining('within 8000 ms') })
})
