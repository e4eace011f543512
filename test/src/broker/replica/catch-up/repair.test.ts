/** Rot in a replica's log: found, kept away from votes, put back from the others, and told when nobody has it. */
import { crc32 } from 'node:zlib'
import { afterEach, expect, test } from 'vitest'
import { FolderRecords } from '../../../../../src/broker/replica/identity.ts'
import { sleep } from '../../../../../src/common/clock.ts'
import { errorTable } from '../../../../../src/common/errors.ts'
import type { Channel } from '../../../../../src/rpc/transport.ts'
import { MemoryKeyValueEngine } from '../../../../../store/index.ts'
import { eventually } from '../../../../support/eventually.ts'
import { MemoryCluster } from '../../../../support/memory-cluster.ts'
import { makeBatch } from '../../apply/support.ts'
import { ProduceClient, PullClient } from '../../handler/support.ts'
import { change, voters } from '../../membership/cluster.ts'
import { createTopic } from '../support.ts'
import { expectEqualLogs, fill, logDirectoryOf, smallSegmentBytes, trim } from './support.ts'

let cluster: MemoryCluster

afterEach(() => cluster.end())

const headerBytes = 4096

async function group(limits: Record<string, number> = {}, raft: Record<string, number> = {}): Promise<void> {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes, limits, raft } })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'filled', 600)
  await cluster.settled()
}

/** Changes a bit in the body of the entry as it lies on the disk of the node. */
async function rot(node: string, index: number): Promise<void> {
  const { path, at } = await placeOf(node, index)
  cluster.machine(node).disk.flipBit(path, at + 70, 3)
}

async function placeOf(node: string, index: number): Promise<{ readonly path: string; readonly at: number }> {
  const [frame] = await cluster.replica(node).log.read(index, index, 1)
  if (!frame) throw new Error(`no entry ${index}`)
  const { position } = frame.header
  const base = position - (position % smallSegmentBytes)
  const { disk } = cluster.machine(node)
  const path = `${logDirectoryOf(disk, node)}/${String(base).padStart(20, '0')}`
  return { path, at: headerBytes + position - base }
}

/** Puts another entry of the same length in the place of this one: intact, and followed by nothing. */
async function replaceEntry(node: string, index: number): Promise<void> {
  const { path, at } = await placeOf(node, index)
  const { disk } = cluster.machine(node)
  const length = disk.contentOf(path).readUInt32LE(at + 8)
  const frame = Buffer.from(disk.contentOf(path).subarray(at, at + Math.ceil((64 + length) / 64) * 64))
  frame[64 + length - 1] = (frame[64 + length - 1] ?? 0) ^ 1
  frame.writeUInt32LE(crc32(frame.subarray(64)), 48)
  frame.writeUInt32LE(crc32(frame.subarray(0, 60)), 60)
  const file = await disk.open(path, { create: false })
  await file.write([frame], at)
  await file.sync()
  await file.close()
}

function kindsOf(node: string): readonly string[] {
  return cluster
    .broker(node)
    .events.since(0)
    .map(({ kind }) => kind)
}

async function healthy(node: string): Promise<void> {
  await eventually(
    `${node} is healed`,
    () => {
      const { quarantine, holes } = cluster.broker(node).status()
      return quarantine === '' && holes.length === 0 && kindsOf(node).includes('quarantine_ended')
    },
    { state: () => [cluster.state(), cluster.broker(node).status(), cluster.broker(node).events.since(0).slice(-10)] },
  )
}

test('P6: a rotten frame that is found at the start is put back from a peer, then the node votes again', async () => {
  await group()
  const leader = await cluster.leader()
  await rot('n1', 200)
  await cluster.stop('n1')
  await cluster.start('n1')
  await healthy('n1')
  expect(kindsOf('n1')).toContain('rot_repaired')
  await cluster.settled()
  await expectEqualLogs(cluster)
  expect(await cluster.machine('n1').disk.list('data/n1')).not.toContain('quarantine')
  // Its vote is needed again, and given.
  const other = cluster.nodes.find((node) => node !== 'n1' && node !== leader) ?? 'n0'
  cluster.kill(leader === 'n1' ? other : leader)
  await cluster.leader()
})

test('P6: with the terms of its first entries rotten a replica begins all the same, and again once they are back', async () => {
  await group()
  for (const index of [1, 2, 3]) {
    const { path, at } = await placeOf('n1', index)
    cluster.machine('n1').disk.flipBit(path, at + 20, 3)
  }
  await cluster.stop('n1')
  await cluster.start('n1')
  await healthy('n1')
  expect(kindsOf('n1').filter((kind) => kind === 'log_recovered')).toHaveLength(2)
  await cluster.settled()
  await expectEqualLogs(cluster)
  // Its peers had no reason to dial it again, and are known all the same.
  const leader = await cluster.leader()
  expect(cluster.broker('n1').replica?.leader()).toMatchObject({
    node: leader,
    address: cluster.broker(leader).address,
  })
})

test('P6: while a hole is open the node neither votes nor leads', async () => {
  await group()
  await rot('n1', 200)
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start('n1')
  const before = await eventually('it knows', () => {
    const status = cluster.broker('n1').status()
    return status.quarantine !== '' && status.holes.length === 1 ? status : null
  })
  expect(before).toMatchObject({ holes: [{ fromIndex: 200, toIndex: 200 }] })
  await cluster
    .machine('n1')
    .disk.list('data/n1')
    .then((names) => expect(names).toContain('quarantine'))
  await cluster.start('n2')
  await healthy('n1')
  await cluster.leader()
  await cluster.start('n0')
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('P6: different frames that rot on all three members are put back from each other', async () => {
  await group()
  await rot('n0', 150)
  await rot('n1', 250)
  await rot('n2', 350)
  for (const node of cluster.nodes) cluster.kill(node)
  await cluster.start()
  for (const node of cluster.nodes) await healthy(node)
  await cluster.leader()
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('P6: the same frame rotten on all three is lost: DATA_LOSS there and nowhere else, and the group goes on', async () => {
  await group()
  for (const node of cluster.nodes) await rot(node, 300)
  // Gracefully, so that the state is past the entry: what nobody has and nobody applied could not be gone on from.
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start()
  for (const node of cluster.nodes) {
    await eventually(`${node} says so`, () => kindsOf(node).includes('data_loss'))
    await eventually(`${node} may vote again`, () => cluster.broker(node).status().quarantine === '')
    expect(cluster.broker(node).status().lost).toEqual([{ fromIndex: 300, toIndex: 300 }])
    const { log } = cluster.replica(node)
    await expect(log.read(300, 300, 1)).rejects.toMatchObject({ code: 'ROTTEN' })
    expect((await log.read(299, 299, 1))[0]?.header.index).toBe(299)
    expect((await log.read(301, 301, 1))[0]?.header.index).toBe(301)
  }
  await fill(cluster.replica(await cluster.leader()), 'after', 20)
  await cluster.settled()
  // What is known to be lost keeps nobody from voting at the next start.
  for (const node of cluster.nodes) cluster.kill(node)
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'again', 20)
})

test('P6: a pull of what is lost is told DATA_LOSS with its range, everything else is delivered', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 't')
  const clientOf = (node: string): Channel => cluster.network.endpoint('client').connect(`${node}:30911`, 'client')
  const produce = new ProduceClient(clientOf(leader))
  for (let sequence = 0; sequence < 5; sequence++) {
    const reply = await produce.send(makeBatch({ topic: 't', records: 1, body: `m${sequence}`, sequence }))
    expect(reply).toMatchObject({ code: 0, baseOffset: sequence })
  }
  await cluster.settled()
  const topicId = cluster.replica(leader).machine.topic('t')?.topicId ?? 0
  const [row] = await cluster.replica(leader).machine.findRows(topicId, 0, 2, 1)
  const lost = row?.index ?? 0
  for (const node of cluster.nodes) await rot(node, lost)
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start()
  await cluster.leader()
  for (const node of cluster.nodes) {
    await eventually(`${node} knows`, () => cluster.broker(node).status().lost.length === 1)
    const pull = new PullClient(clientOf(node))
    const before = await pull.pull({ offset: 0, waitMs: 1000 })
    expect(before).toMatchObject({ code: 0, nextOffset: 2 })
    const reply = await pull.pull({ offset: 2, waitMs: 1000 })
    expect(reply.code).toBe(errorTable.DATA_LOSS.number)
    expect(reply.status?.message).toContain(`${lost} to ${lost}`)
    expect(await pull.pull({ offset: 3, waitMs: 1000 })).toMatchObject({ code: 0, nextOffset: 5 })
  }
})

test('P6: the scrub finds what nobody reads, and has it put back while the node runs', async () => {
  await group({ scrubPassMs: 100, tailCacheBytes: 1024, blockCacheBytes: 1024 })
  const leader = await cluster.leader()
  const victim = cluster.nodes.find((node) => node !== leader) ?? 'n0'
  await rot(victim, 100)
  await eventually('the scrub finds it', () => kindsOf(victim).includes('rot_found'))
  await healthy(victim)
  await expectEqualLogs(cluster)
})

test('P6: a leader whose log rots hands over, is healed, and may lead again', async () => {
  await group({ tailCacheBytes: 1024, blockCacheBytes: 1024 })
  const leader = await cluster.leader()
  await rot(leader, 120)
  // Something else has to take the place of what was read to find the frame.
  const { log } = cluster.replica(leader)
  for (let index = 200; index < 500; index++) await log.read(index, index, 1)
  await expect(log.read(120, 120, 1)).rejects.toMatchObject({ code: 'ROTTEN' })
  await healthy(leader)
  // The repair may be the quicker one.
  await eventually('another one took over', () => kindsOf(leader).includes('transfer_ended'))
  const next = await cluster.leader()
  await fill(cluster.replica(next), 'after', 20)
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('P6: a log whose end rotted is cut only behind a durable record, and votes once it reached the leader', async () => {
  await group()
  const leader = await cluster.leader()
  const victim = cluster.nodes.find((node) => node !== leader) ?? 'n0'
  const { lastIndex } = cluster.replica(victim).log
  await rot(victim, lastIndex)
  await cluster.stop(victim)
  await cluster.start(victim)
  await healthy(victim)
  await cluster.settled()
  await expectEqualLogs(cluster)
})

/** As if the file had never been there. */
async function loseFirstSegment(node: string): Promise<void> {
  const { disk } = cluster.machine(node)
  const directory = logDirectoryOf(disk, node)
  const [first] = (await disk.list(directory)).toSorted()
  await disk.unlink(`${directory}/${first}`)
  await disk.syncDirectory(directory)
}

test('P6: a log whose first segment is lost is no trimmed log: no vote, no answer, and a whole copy', async () => {
  await group({ copyBytesMax: 4 * 1024, catchUpBytesPerSecond: 200_000 })
  await cluster.stop('n1')
  await loseFirstSegment('n1')
  await cluster.start('n1')
  const status = cluster.broker('n1').status()
  expect(status.quarantine).toMatch(/its first segments are lost: it begins at \d+, not at 1/)
  expect(cluster.replica('n1').isPresentable).toBe(false)
  // No copy may begin where it begins: that would take the loss for a trim.
  expect(cluster.replica('n1').copySource([]).appliedIndex).toBe(0)
  await healthy('n1')
  expect(kindsOf('n1').indexOf('catch_up_finished')).toBeLessThan(kindsOf('n1').indexOf('quarantine_ended'))
  expect(cluster.replica('n1').log.firstIndex).toBe(1)
  expect(cluster.replica('n1').isPresentable).toBe(true)
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('P6: a trimmed log that loses one more segment has lost history, and a trimmed one that does not has none', async () => {
  await group()
  await fill(cluster.replica(await cluster.leader()), 'more', 600)
  await cluster.settled()
  for (const node of cluster.nodes) await trim(cluster, node, 500)
  await cluster.stop('n1')
  await cluster.start('n1')
  expect(cluster.broker('n1').status().quarantine).toBe('')
  const { firstIndex } = cluster.replica('n1').log
  expect(firstIndex).toBeGreaterThan(1)
  await cluster.stop('n1')
  await loseFirstSegment('n1')
  await cluster.start('n1')
  await healthy('n1')
  expect(cluster.replica('n1').log.firstIndex).toBe(firstIndex)
  // The copy that came is where this log begins from now on.
  await cluster.stop('n1')
  await cluster.start('n1')
  expect(cluster.broker('n1').status().quarantine).toBe('')
})

test('P6: a hole behind an entry of another time cannot be filled: the log is copied anew, all of it', async () => {
  await group()
  await replaceEntry('n1', 200)
  await rot('n1', 201)
  const { path, at } = await placeOf('n1', 201)
  const { disk } = cluster.machine('n1')
  await cluster.stop('n1')
  disk.flipBit(path, at + 33, 2)
  await cluster.start('n1')
  expect(cluster.broker('n1').status().holes).toEqual([{ fromIndex: 201, toIndex: 201 }])
  await healthy('n1')
  expect(kindsOf('n1')).toContain('catch_up_finished')
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('P6: a copy begins behind lost entries as soon as the log goes on in another segment, and says so before', async () => {
  await group({ copyFirstBytes: 10_000 })
  for (const node of cluster.nodes) await rot(node, 550)
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start()
  await cluster.leader()
  for (const node of cluster.nodes) {
    await eventually(`${node} says so`, () => cluster.broker(node).status().lost.length === 1)
  }
  cluster.addMachine('n3')
  await cluster.startWith('n3', cluster.joining('n3'))
  await change(cluster, 'add', 'n3')
  const why = /entries 550 to 550 are rotten on n\d: .*once the log goes on in another segment/
  await eventually('it says why it cannot', () => why.test(cluster.broker('n3').status().reason), {
    state: () => [cluster.broker('n3').status(), cluster.broker('n3').events.since(0)],
  })
  await fill(cluster.replica(await cluster.leader()), 'after', 300)
  await eventually('the copy is in force', () => kindsOf('n3').includes('catch_up_finished'))
  await voters(cluster, 'n0', 'n1', 'n2', 'n3')
  await cluster.settled()
  expect(cluster.replica('n3').log.firstIndex).toBeGreaterThan(550)
  await expectEqualLogs(cluster)
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
})

test('P6: what two have rotten and the third never had is lost, and the third gets past it by a copy', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const first = await cluster.leader()
  await fill(cluster.replica(first), 'both', 100)
  const behind = cluster.nodes.find((node) => node !== first) as string
  const rest = cluster.nodes.filter((node) => node !== behind)
  cluster.kill(behind)
  await fill(cluster.replica(await cluster.leader(rest)), 'without', 400)
  await cluster.settled(rest)
  for (const node of rest) await rot(node, 300)
  for (const node of rest) await cluster.stop(node)
  await cluster.start()
  expect(rest).toContain(await cluster.leader())
  for (const node of rest) {
    await eventually(`${node} says so`, () => cluster.broker(node).status().lost.length === 1)
    await eventually(`${node} may vote again`, () => cluster.broker(node).status().quarantine === '')
    expect(cluster.broker(node).status().lost).toEqual([{ fromIndex: 300, toIndex: 300 }])
  }
  await fill(cluster.replica(await cluster.leader()), 'after', 300)
  await eventually('the copy is in force', () => kindsOf(behind).includes('catch_up_finished'), {
    state: () => [cluster.state(), cluster.broker(behind).status()],
  })
  await cluster.settled()
  expect(cluster.replica(behind).log.firstIndex).toBeGreaterThan(300)
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
})

test('P6: who does not know of a member, because its log hides it, takes nothing for lost before that one was asked', async () => {
  cluster = new MemoryCluster({ nodes: ['n0', 'n1'] })
  await cluster.start()
  await fill(cluster.replica(await cluster.leader()), 'before', 20)
  const from = (await cluster.settled()) + 1
  cluster.addMachine('n2')
  await cluster.startWith('n2', cluster.joining('n2'))
  await change(cluster, 'add', 'n2')
  await voters(cluster, 'n0', 'n1', 'n2')
  const to = await cluster.settled()
  await fill(cluster.replica(await cluster.leader()), 'after', 20)
  await cluster.settled()
  for (const node of ['n0', 'n1']) for (let index = from; index <= to; index++) await rot(node, index)
  for (const node of cluster.nodes) await cluster.stop(node)
  cluster.machine('n1').engine = new MemoryKeyValueEngine()
  await cluster.start('n0', 'n1')
  await eventually('n1 knows what is rotten', () => cluster.broker('n1').status().holes.length > 0)
  await sleep(cluster.clock, 1000)
  expect(kindsOf('n1')).not.toContain('data_loss')
  await cluster.startWith('n2', cluster.joining('n2'))
  for (const node of ['n0', 'n1']) await healthy(node)
  expect(kindsOf('n1')).not.toContain('data_loss')
  await cluster.leader()
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('R6: a leader that lost terms for good does not guess them to a member that knows them', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const first = await cluster.leader()
  await fill(cluster.replica(first), 'before', 30)
  await cluster.settled()
  const from = cluster.replica(first).log.lastIndex
  cluster.kill(first)
  const next = await cluster.leader(cluster.nodes.filter((node) => node !== first))
  await fill(cluster.replica(next), 'in another term', 10)
  await cluster.start(first)
  const to = await cluster.settled()
  const behind = cluster.nodes.find((node) => node !== next) as string
  const rest = cluster.nodes.filter((node) => node !== behind)
  await cluster.stop(behind)
  await fill(cluster.replica(await cluster.leader(rest)), 'without', 400)
  await cluster.settled(rest)
  for (const node of rest) {
    for (const index of [from, to]) {
      const { path, at } = await placeOf(node, index)
      cluster.machine(node).disk.flipBit(path, at + 33, 2)
    }
  }
  for (const node of rest) await cluster.stop(node)
  await cluster.start(behind)
  await rot(behind, from)
  cluster.kill(behind)
  await cluster.start()
  for (const node of rest)
    await eventually(`${node} says so`, () => cluster.broker(node).status().lost.length === 1, {
      state: () => [cluster.failures, cluster.state(), cluster.broker(node).status().holes],
    })
  expect(cluster.broker(next).status().lost).toEqual([{ fromIndex: from, toIndex: to }])
  await eventually(
    'the copy is in force',
    () => cluster.failures.size > 0 || kindsOf(behind).includes('catch_up_finished'),
    { state: () => cluster.state() },
  )
  expect(cluster.failures).toEqual(new Map())
  await cluster.settled()
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
})

test('P6: a state that is lost behind lost entries is copied: they can never be applied again', async () => {
  await group()
  for (const node of cluster.nodes) await rot(node, 300)
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start()
  await cluster.leader()
  for (const node of cluster.nodes) {
    await eventually(`${node} says so`, () => cluster.broker(node).status().lost.length === 1)
  }
  await cluster.stop('n1')
  cluster.machine('n1').engine = new MemoryKeyValueEngine()
  await cluster.start('n1')
  await eventually('the copy is in force', () => kindsOf('n1').includes('catch_up_finished'))
  await cluster.settled()
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
})

test('P2: who waits for a state from behind lost entries could serve nobody, and does not stand', async () => {
  await group()
  for (const node of cluster.nodes) await rot(node, 300)
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start()
  await cluster.leader()
  for (const node of cluster.nodes) {
    await eventually(`${node} says so`, () => cluster.broker(node).status().lost.length === 1)
  }
  for (const node of cluster.nodes) await cluster.stop(node)
  cluster.machine('n1').engine = new MemoryKeyValueEngine()
  await cluster.start('n1')
  await eventually('all that can be is applied', () => cluster.replica('n1').appliedIndex === 299)
  expect(cluster.replica('n1').raftStatus()).toMatchObject({ quarantine: null, health: 'unable' })
  for (const node of ['n0', 'n2']) await cluster.start(node)
  expect(await cluster.leader()).not.toBe('n1')
  await eventually('the copy is in force', () => kindsOf('n1').includes('catch_up_finished'))
  await cluster.settled()
  await eventually('it may lead again', () => cluster.replica('n1').raftStatus().health === 'well')
})

test('P6: the lost beginning of a log shows only once its lost state was copied, and all of it is copied then', async () => {
  await group()
  await fill(cluster.replica(await cluster.leader()), 'more', 600)
  await cluster.settled()
  for (const node of cluster.nodes) await trim(cluster, node, 500)
  await cluster.stop('n1')
  cluster.machine('n1').engine = new MemoryKeyValueEngine()
  await loseFirstSegment('n1')
  await cluster.start('n1')
  await healthy('n1')
  expect(kindsOf('n1').filter((kind) => kind === 'catch_up_finished')).toHaveLength(2)
  await cluster.settled()
  await expectEqualLogs(cluster)
})

test('P6: lost entries are forgotten when the group gives up that part of its log', async () => {
  await group()
  for (const node of cluster.nodes) await rot(node, 100)
  for (const node of cluster.nodes) await cluster.stop(node)
  await cluster.start()
  for (const node of cluster.nodes) {
    await eventually(`${node} says so`, () => cluster.broker(node).status().lost.length === 1)
  }
  await fill(cluster.replica(await cluster.leader()), 'more', 600)
  for (const node of cluster.nodes) {
    await trim(cluster, node, 500)
    await eventually(`${node} forgets it`, () => cluster.broker(node).status().lost.length === 0)
  }
})

test('P6: what a leader puts in the place of lost entries is not lost', async () => {
  // The old leader takes entries for so long without a quorum.
  await group({}, { electionTimeoutMinMs: 1000, electionTimeoutMaxMs: 1300 })
  const old = await cluster.leader()
  const others = cluster.nodes.filter((node) => node !== old)
  for (const node of others) cluster.kill(node)
  const { log } = cluster.replica(old)
  const { lastIndex } = log
  // Twice: rot in what was flushed last looks like a torn end.
  for (const count of [50, 100]) {
    fill(cluster.replica(old), `alone-${count}`, 50).catch(() => {})
    await eventually('it has entries that nobody else has', () => log.durableIndex >= lastIndex + count)
  }
  const index = lastIndex + 10
  await rot(old, index)
  cluster.kill(old)
  const records = new FolderRecords(cluster.machine(old).disk, `data/${old}`)
  const lost = [{ fromIndex: index, toIndex: index }]
  await records.saveQuarantine({ pending: false, untilLeaderReached: false, reason: '', lost })
  await cluster.start(...others)
  await fill(cluster.replica(await cluster.leader(others)), 'instead', 50)
  await cluster.start(old)
  await cluster.settled()
  expect(kindsOf(old)).not.toContain('rot_found')
  expect(cluster.broker(old).status()).toMatchObject({ lost: [], holes: [] })
  await eventually('its record is gone', async () => (await records.quarantine()) === null)
  await rot(old, index)
  await cluster.stop(old)
  await cluster.start(old)
  await healthy(old)
  await expectEqualLogs(cluster)
})
