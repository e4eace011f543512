/** A group in which one disk, or every disk, becomes slow: who leads then, and that nothing is lost on the way. */
import { afterEach, expect, test } from 'vitest'
import { sleep } from '../../../../src/common/clock.ts'
import { frameTypes } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { makeBatch } from '../apply/support.ts'
import { createTopic } from './support.ts'

let cluster: MemoryCluster
let load: { stop(): Promise<number> } | null = null

afterEach(async () => {
  await load?.stop()
  load = null
  cluster.end()
})

/** As slow as a bad disk is against its limit: a test cannot wait for one that is bad for real. */
const limits = { slowFsyncMs: 100 }

async function startCluster(): Promise<string> {
  cluster = new MemoryCluster({ broker: { limits } })
  await cluster.start()
  const leader = await cluster.leader()
  await createTopic(cluster.replica(leader), 't')
  return leader
}

function slowDown(node: string, syncMs: number): void {
  cluster.machine(node).disk.schedule = (operation) =>
    operation === 'sync' ? sleep(cluster.clock, syncMs) : Promise.resolve()
}

/** One producer that sends to whoever leads; the end heals the disks and tells how many were acknowledged. */
function produce(): { stop(): Promise<number> } {
  const acknowledged: number[] = []
  let isOver = false
  const run = async (): Promise<void> => {
    while (!isOver) {
      const leader = cluster.nodes.find((node) => cluster.replica(node).leading)
      const body = makeBatch({ topic: 't', body: 'x' })
      const sent = leader
        ? cluster.replica(leader).propose(frameTypes.batch, [body], { timeoutMs: 3000 })
        : Promise.reject(new Error('nobody leads'))
      await sent.then(
        ({ index }) => acknowledged.push(index),
        () => sleep(cluster.clock, 10),
      )
    }
  }
  const running = run()
  return {
    stop: async () => {
      isOver = true
      await running
      for (const node of cluster.nodes) cluster.machine(node).disk.schedule = undefined
      const last = Math.max(0, ...acknowledged)
      for (const node of cluster.nodes) {
        await eventually('it has all that was acknowledged', () => cluster.replica(node).appliedIndex >= last)
      }
      expect(new Set(acknowledged).size).toBe(acknowledged.length)
      return acknowledged.length
    },
  }
}

function kinds(node: string): readonly string[] {
  const events = cluster.broker(node).events.since(0)
  return events.map(({ kind }) => kind)
}

function elections(): number {
  return cluster.nodes.reduce((sum, node) => sum + kinds(node).filter((kind) => kind === 'leader_elected').length, 0)
}

test('a leader whose disk becomes slow hands over within seconds, and nothing acknowledged is lost', async () => {
  const leader = await startCluster()
  const before = elections()
  load = produce()
  slowDown(leader, 450)
  const others = cluster.nodes.filter((node) => node !== leader)
  const next = await eventually('another one leads', () => others.find((node) => cluster.replica(node).leading))
  expect(kinds(leader)).toContain('leader_unfit')
  expect(cluster.broker(leader).status().reason).toMatch(/^UNFIT_TO_LEAD: slow_disk \(\d flushes in a row/)
  expect(cluster.replica(leader).raftStatus().health).toBe('reluctant')
  // A transfer, not an election that it lost: the group was never without a leader for long.
  expect(elections() - before).toBe(1)
  await eventually('the next one acknowledges', () => cluster.replica(next).commitIndex > 200)
  expect(await load.stop()).toBeGreaterThan(100)
  load = null
  await cluster.settled()
  expect(new Set(cluster.nodes.map((node) => cluster.replica(node).machine.hash)).size).toBe(1)
})

test('when all disks are slow leadership rests where it is', async () => {
  const leader = await startCluster()
  const before = elections()
  for (const node of cluster.nodes) slowDown(node, 450)
  load = produce()
  await eventually('all know', () => cluster.nodes.every((node) => kinds(node).includes('leader_unfit')))
  const { commitIndex } = cluster.replica(leader)
  await eventually('it goes on', () => cluster.replica(leader).commitIndex > commitIndex + 3)
  expect(cluster.replica(leader).leading).toBe(true)
  expect(elections()).toBe(before)
  expect(cluster.nodes.flatMap(kinds)).not.toContain('transfer_ended')
  expect(await load.stop()).toBeGreaterThan(5)
  load = null
})

test('a follower whose disk is slow does not stand when the leader dies', async () => {
  const leader = await startCluster()
  const [slow, well] = cluster.nodes.filter((node) => node !== leader) as [string, string]
  slowDown(slow, 450)
  load = produce()
  await eventually('it knows', () => kinds(slow).includes('leader_unfit'))
  expect(cluster.replica(slow).raftStatus().health).toBe('reluctant')
  await load.stop()
  load = null
  cluster.kill(leader)
  expect(await cluster.leader([slow, well])).toBe(well)
})
