/** Replicas that their group has left behind come back by a copy of log and state, under load and through failures. */
import { afterEach, expect, test } from 'vitest'
import { sleep } from '../../../../../src/common/clock.ts'
import type { CopyStatus } from '../../../../../src/rpc/methods.ts'
import { MemoryKeyValueEngine } from '../../../../../store/index.ts'
import { eventually } from '../../../../support/eventually.ts'
import { MemoryCluster } from '../../../../support/memory-cluster.ts'
import { change, voters } from '../../membership/cluster.ts'
import { losePower } from '../support.ts'
import { expectEqualLogs, fill, Load, smallSegmentBytes, trim } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

/** A group whose follower `n2` is down while the others go on and forget the beginning of the log. */
async function leftBehind(limits: Record<string, number> = {}): Promise<{ readonly others: readonly string[] }> {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits } })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'before', 100)
  await cluster.settled()
  cluster.kill('n2')
  const others = ['n0', 'n1']
  await fill(cluster.replica(await cluster.leader(others)), 'after', 1000)
  await cluster.settled(others)
  for (const node of others) {
    const first = await trim(cluster, node, 600)
    expect(first).toBeGreaterThan(300)
    await cluster.leader(others)
  }
  return { others }
}

function kindsOf(node: string): readonly string[] {
  return cluster
    .broker(node)
    .events.since(0)
    .map(({ kind }) => kind)
}

/** Slow and in small pieces, so that there is a middle to do something in. */
const slow = { copyBytesMax: 4 * 1024, catchUpBytesPerSecond: 300_000 }

async function copying(node: string, bytes: number): Promise<CopyStatus> {
  return eventually('the copy is on its way', () => {
    const { catchUp } = cluster.broker(node).status()
    return catchUp && catchUp.phase === 'log' && catchUp.fetchedBytes >= bytes ? catchUp : null
  })
}

/** What is left of the log may come within one turn of a busy machine: any phase of the copy tells. */
async function goingOn(node: string): Promise<CopyStatus> {
  return eventually('the copy goes on', () => {
    const { catchUp } = cluster.broker(node).status()
    return catchUp && catchUp.fetchedBytes > 0 ? catchUp : null
  })
}

async function expectWhole(): Promise<void> {
  await cluster.leader()
  await cluster.settled()
  await expectEqualLogs(cluster)
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
}

async function caughtUp(node: string): Promise<void> {
  await eventually('the copy is in force', () => kindsOf(node).includes('catch_up_finished'), {
    state: () => [cluster.state(), cluster.broker(node).status(), cluster.broker(node).events.since(0).slice(-20)],
  })
}

test('S2: a follower behind a trimmed log comes back under load with equal bytes and equal state', async () => {
  await leftBehind()
  const load = new Load(cluster)
  await cluster.start('n2')
  await caughtUp('n2')
  const during = load.acknowledged
  await eventually('the load goes on', () => load.acknowledged > during + 20)
  await load.stop()
  await cluster.settled()
  expect(kindsOf('n2').filter((kind) => kind === 'catch_up_started')).toHaveLength(1)
  await expectEqualLogs(cluster)
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
  expect(cluster.replica('n2').log.firstIndex).toBeGreaterThan(300)
  expect(cluster.broker('n2').status().catchUp).toBeUndefined()
  const names = await cluster.machine('n2').disk.list('data/n2')
  expect(names).toEqual(expect.arrayContaining(['log.1', 'generation']))
  expect(names).not.toContain('log')
  expect(names).not.toContain('incoming')
})

test('P7: a source that dies in the middle is replaced by another one, and nothing starts over', async () => {
  await leftBehind(slow)
  await cluster.start('n2')
  const { source, fetchedBytes } = await copying('n2', 40_000)
  const other = source === 'n0' ? 'n1' : 'n0'
  cluster.kill(source)
  const later = await eventually('the other one gives', () => {
    const { catchUp } = cluster.broker('n2').status()
    return catchUp?.source === other && catchUp.fetchedBytes > fetchedBytes ? catchUp : null
  })
  expect(later.fetchedBytes).toBeGreaterThan(fetchedBytes)
  const fetched = cluster
    .broker('n2')
    .events.since(0)
    .filter(({ kind }) => kind === 'catch_up_started')
  expect(fetched).toHaveLength(1)
  await caughtUp('n2')
  await cluster.start(source)
  await expectWhole()
})

test('P7: a target that dies in the middle goes on behind what was durable', async () => {
  await leftBehind(slow)
  await cluster.start('n2')
  const { fetchedBytes } = await copying('n2', 60_000)
  cluster.crash('n2', losePower)
  await cluster.start('n2')
  const first = await eventually('it copies again', () => {
    const { catchUp } = cluster.broker('n2').status()
    return catchUp?.phase === 'log' ? catchUp : null
  })
  // A flush comes with every fourth piece.
  expect(first.fetchedBytes).toBeGreaterThan(fetchedBytes - 5 * slow.copyBytesMax)
  await caughtUp('n2')
  await expectWhole()
})

test('a copy waits while the disk is full, says so, leaves the reserve alone, and goes on when there is space', async () => {
  await leftBehind({ ...slow, diskFullRetryMs: 20 })
  await cluster.start('n2')
  await copying('n2', 20_000)
  const { disk } = cluster.machine('n2')
  disk.fillUp()
  const held = await eventually('it waits for space', () => {
    const { catchUp } = cluster.broker('n2').status()
    return catchUp?.phase === 'space' && disk.spaceLeft > 0 ? catchUp : null
  })
  expect(cluster.broker('n2').status().reason).toBe('CATCHING_UP: waits, because the disk is full')
  const leftBytes = disk.spaceLeft
  const term = cluster.replica('n2').term
  cluster.kill(cluster.nodes.find((node) => cluster.replica(node).leading) ?? 'n0')
  await eventually('it votes for a new leader', () => cluster.replica('n2').term > term)
  expect(cluster.broker('n2').status().catchUp).toMatchObject({ phase: 'space', fetchedBytes: held.fetchedBytes })
  expect(disk.spaceLeft).toBeGreaterThan(leftBytes - 16_384)
  disk.capacityBytes = Number.POSITIVE_INFINITY
  for (const node of cluster.nodes) if (!cluster.isRunning(node)) await cluster.start(node)
  await caughtUp('n2')
  await expectWhole()
})

test('a copy leaves the reserve alone, too, while the replica on the full disk begins again', async () => {
  const raft = { inflightMessagesMax: 4, appendBytesMax: 65_536 }
  const limits = { diskFullRetryMs: 300, zeroAheadBytes: 8192 }
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits, raft } })
  await cluster.start()
  const leader = await cluster.leader()
  await fill(cluster.replica(leader), 'before', 100)
  await cluster.settled()
  const victim = cluster.nodes.find((node) => node !== leader) ?? ''
  const others = cluster.nodes.filter((node) => node !== victim)
  const { disk } = cluster.machine(victim)
  await eventually('it holds its reserve', () => !cluster.replica(victim).log.diskFull)
  disk.fillUp()
  // Staged there, and for longer than the leader has it.
  const bursts = ['a', 'b', 'c', 'd', 'e']
  await Promise.all(bursts.map((burst) => fill(cluster.replica(leader), `after-${burst}`, 300)))
  await cluster.settled(others)
  for (const node of others) await trim(cluster, node, 1400)
  const phase = (): string | undefined => cluster.broker(victim).status().catchUp?.phase
  await eventually('its copy waits for space', () => phase() === 'space')
  expect(cluster.replica(victim).log.stagedBytes).toBeGreaterThan(0)

  // Its log is so long that it takes a while to read it again.
  let isRead = false
  disk.schedule = async (operation, path) => {
    while (operation === 'read' && path.startsWith(`data/${victim}/log/`) && !isRead) await sleep(cluster.clock, 10)
  }
  await eventually('it begins again', () => cluster.broker(victim).replica === null)
  const leftBytes = disk.spaceLeft
  await sleep(cluster.clock, 1500)
  expect(cluster.broker(victim).replica).toBeNull()
  expect(phase()).toBe('space')
  expect(disk.spaceLeft).toBe(leftBytes)
  isRead = true
  disk.capacityBytes = Number.POSITIVE_INFINITY
  await caughtUp(victim)
  await expectWhole()
})

test('a graceful stop in the middle of a copy does not wait for it, and the next start goes on', async () => {
  await leftBehind(slow)
  await cluster.start('n2')
  const { fetchedBytes } = await copying('n2', 40_000)
  const startMs = cluster.clock.monotonicMs()
  await cluster.stop('n2')
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(1000)
  await cluster.start('n2')
  expect((await goingOn('n2')).fetchedBytes).toBeGreaterThanOrEqual(fetchedBytes)
  expect(cluster.broker('n2').status().reason).toMatch(/^CATCHING_UP: copies the (log|state) of n[01]/)
  await caughtUp('n2')
  await expectWhole()
})

test('P7: a change of leaders meanwhile does not end the copy', async () => {
  await leftBehind(slow)
  await cluster.start('n2')
  await copying('n2', 20_000)
  const leader = await cluster.leader(['n0', 'n1'])
  cluster.replica(leader).leadership.transferAway()
  await eventually('another one leads', () => cluster.replica(leader).role !== 'leader')
  await fill(cluster.replica(await cluster.leader()), 'meanwhile', 50)
  await caughtUp('n2')
  await expectWhole()
})

test('a state store that was lost beside a trimmed log is copied, and the log stays', async () => {
  await leftBehind()
  await cluster.start('n2')
  await caughtUp('n2')
  await cluster.stop('n1')
  const machine = cluster.machine('n1')
  machine.engine = new MemoryKeyValueEngine()
  const leader = await cluster.leader(['n0', 'n2'])
  await fill(cluster.replica(leader), 'more', 60)
  const load = new Load(cluster)
  await cluster.start('n1')
  await caughtUp('n1')
  await load.stop()
  await expectWhole()
  const names = await cluster.machine('n1').disk.list('data/n1')
  expect(names).toEqual(expect.arrayContaining(['log', 'state.1']))
})

test('a lost state comes from a member that knows of the trim: without it the trimmed log would seem to lack its front', async () => {
  const limits = { stateWriteDelayMs: 5 }
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits } })
  await cluster.start()
  const leader = await cluster.leader()
  const [behind, victim] = cluster.nodes.filter((node) => node !== leader) as [string, string]
  await fill(cluster.replica(leader), 'before', 900)
  await cluster.settled()
  await cluster.stop(behind)
  await cluster.startWith(behind, { limits: { stateWriteDelayMs: 60_000 } })
  await cluster.settled()
  await trim(cluster, victim, 600)
  await trim(cluster, leader, 600)
  await cluster.settled()
  expect(cluster.replica(behind).log.firstIndex).toBe(1)
  await cluster.stop(victim)
  cluster.machine(victim).engine = new MemoryKeyValueEngine()
  await cluster.start(victim)
  await caughtUp(victim)
  expect(kindsOf(victim)).not.toContain('quarantine_started')
  expect(cluster.broker(victim).status().quarantine).toBe('')
  expect(kindsOf(victim).filter((kind) => kind === 'catch_up_started')).toHaveLength(1)
})

for (const [what, path] of [
  ['its state is opened', 'hard-state'],
  ['it is put on record', 'generation.tmp'],
] as const) {
  test(`a disk that fills up when a copy is whole, before ${what}, stops nobody while there is a reserve`, async () => {
    await leftBehind()
    const { disk } = cluster.machine('n2')
    await cluster.start('n2')
    const isInstalling = (): boolean => cluster.broker('n2').status().catchUp?.phase === 'install'
    let isFull = false
    disk.schedule = async (_, name) => {
      if (isFull || !name.endsWith(path) || !isInstalling()) return
      isFull = true
      disk.fillUp()
    }
    await eventually('it fills up', () => isFull)
    await eventually('the copy is in force', () => {
      return cluster.failures.size > 0 || kindsOf('n2').includes('catch_up_finished')
    })
    expect(cluster.failures).toEqual(new Map())
    expect(cluster.replica('n2').log.firstIndex).toBeGreaterThan(1)
  })
}

test('P7: a state is copied also where the membership has moved on twice since the one that can be read', async () => {
  cluster = new MemoryCluster({ nodes: ['n0', 'n1', 'n2', 'n3'], broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const rest = ['n0', 'n1', 'n2']
  await cluster.leader()
  await change(cluster, 'remove', 'n3')
  await cluster.stop('n3')
  await fill(cluster.replica(await cluster.leader(rest)), 'after', 1000)
  await cluster.settled(rest)
  for (const node of rest) expect(await trim(cluster, node, 600)).toBeGreaterThan(300)
  await cluster.stop('n1')
  cluster.machine('n1').engine = new MemoryKeyValueEngine()
  await cluster.leader(['n0', 'n2'])
  await change(cluster, 'priority', 'n2', { priority: 5 })
  await cluster.start('n1')
  await caughtUp('n1')
  await eventually('it serves again', () => cluster.broker('n1').replica?.isPresentable)
  await eventually('it knows the newest membership', () => {
    const { membership } = cluster.replica('n1').history.newest
    return membership.priorities.some(([node, priority]) => node === 'n2' && priority === 5)
  })
})

test('P7: a wiped learner copies the log before it begins, then gets its vote', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits: { copyFirstBytes: 50_000 } } })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'before', 1000)
  cluster.addMachine('n3')
  await cluster.startWith('n3', cluster.joining('n3'))
  const load = new Load(cluster)
  await change(cluster, 'add', 'n3')
  await caughtUp('n3')
  await voters(cluster, 'n0', 'n1', 'n2', 'n3')
  await load.stop()
  await expectWhole()
  expect(cluster.replica('n3').log.firstIndex).toBe(1)
})

test('a newcomer that still asks what there is to copy when its whole group is gone stops at once', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits: { copyFirstBytes: 50_000 } } })
  await cluster.start()
  await cluster.leader()
  cluster.addMachine('n3')
  const broker = await cluster.startWith('n3', cluster.joining('n3'))
  const { disk } = cluster.machine('n3')
  const isBroughtIn = (): boolean => disk.paths().includes('data/n3/configuration')
  void change(cluster, 'add', 'n3').catch(() => {})
  while (!isBroughtIn()) await new Promise((resolve) => setImmediate(resolve))
  for (const node of ['n0', 'n1', 'n2']) cluster.kill(node)
  await sleep(cluster.clock, 300)
  expect(broker.status().catchUp).toBeUndefined()
  expect(broker.replica).toBeNull()
  const startMs = cluster.clock.monotonicMs()
  await broker.close()
  expect(cluster.clock.monotonicMs() - startMs).toBeLessThan(3500)
})

test('a newcomer that has no space for the state says so, keeps the copied log, and goes on when there is space', async () => {
  const limits = { ...slow, copyFirstBytes: 50_000, catchUpBytesPerSecond: 600_000 }
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits } })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'before', 600)
  cluster.addMachine('n3')
  await cluster.startWith('n3', cluster.joining('n3'))
  await change(cluster, 'add', 'n3')
  const { disk } = cluster.machine('n3')
  const status = (): CopyStatus | undefined => cluster.broker('n3').status().catchUp
  const state = await eventually('it copies the state', () => (status()?.phase === 'state' ? status() : null))
  disk.fillUp()
  await eventually('it waits for space', () => status()?.phase === 'space')
  expect(cluster.broker('n3').status().reason).toMatch(/DISK_FULL/)
  const logBytes = state?.totalBytes ?? 0
  expect(status()?.fetchedBytes).toBeGreaterThan(logBytes / 2)
  expect(await disk.list('data/n3')).toEqual(expect.arrayContaining(['incoming', 'log.1']))
  disk.capacityBytes = Number.POSITIVE_INFINITY
  await eventually('it goes on', () => status()?.phase !== 'space')
  await caughtUp('n3')
  expect(kindsOf('n3')).not.toContain('storage_failed')
  await expectWhole()
})

test('P7: a state that is lost in the middle of a whole copy does not throw the copy away', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits: slow } })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'before', 600)
  await cluster.settled()
  for (const node of cluster.nodes) await trim(cluster, node, 400)
  cluster.kill('n2')
  const others = ['n0', 'n1']
  await fill(cluster.replica(await cluster.leader(others)), 'after', 1000)
  await cluster.settled(others)
  for (const node of others) await trim(cluster, node, 1400)
  await cluster.start('n2')
  const { fetchedBytes } = await copying('n2', 40_000)
  await cluster.stop('n2')
  cluster.machine('n2').engine = new MemoryKeyValueEngine()
  await cluster.start('n2')
  expect((await goingOn('n2')).fetchedBytes).toBeGreaterThanOrEqual(fetchedBytes)
  await caughtUp('n2')
  const started = cluster.broker('n2').events.since(0)
  expect(started.filter(({ kind }) => kind === 'catch_up_started')).toMatchObject([{ details: { what: 'whole' } }])
  await expectWhole()
})

test('P2: a lost state comes without a leader too, where only its node has the log to lead', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const longest = await cluster.leader()
  const [well, gone] = cluster.nodes.filter((node) => node !== longest) as [string, string]
  await fill(cluster.replica(longest), 'before', 1000)
  await cluster.settled()
  for (const node of cluster.nodes) await trim(cluster, node, 600)
  await cluster.settled()
  // At once: a leader that finds itself without a quorum takes nothing more.
  for (const node of [well, gone]) cluster.kill(node)
  const { log } = cluster.replica(longest)
  const { lastIndex } = log
  fill(cluster.replica(longest), 'alone', 50).catch(() => {})
  await eventually('it has entries that nobody else has', () => log.durableIndex >= lastIndex + 50)
  cluster.kill(longest)
  cluster.machine(longest).engine = new MemoryKeyValueEngine()
  await cluster.start(longest, well)
  await caughtUp(longest)
  expect(await cluster.leader([longest, well])).toBe(longest)
  await cluster.start(gone)
  await expectWhole()
})
