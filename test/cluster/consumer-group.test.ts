import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Load } from '../../src/cli/fast-try/load.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import type { ConsumedMessage, MessageQueue } from '../../src/client/mod.ts'
import { AnsweredCommits, Deliveries, OffsetSampler } from './group-audit.ts'
import { expectIntact, kill, leaderName, patienceMs, start, startLoad, until, withCluster } from './support.ts'

const topic = 'Grouped'
const group = 'Workers'
const queues = 8
const perPhase = 600
const rounds = 2
/** Every so many messages, a listener fails at its first call. */
const failsEvery = 97
/** Every so many messages, a listener waits until the new leader acknowledges. */
const hangsEvery = 101
/** No member is taken for gone because a busy machine gave it no time. */
const sessionTimeoutMs = 60_000
const membership = { group, subscribe: [topic], from: 'first', commitIntervalMs: 200, sessionTimeoutMs } as const

test(`B5, P4: a group of two members goes on after ${rounds} leader kills from its committed offsets: none moves back, all is consumed, nothing whose commit was answered comes again`, async () => {
  await withCluster(async (session) => {
    const producer = session.client.producer({ sendTimeoutMs: patienceMs })
    const load = await startLoad(session, producer, { topic, queues })
    const commits = new AnsweredCommits()
    const deliveries = new Deliveries()
    const gate = new Gate()
    const clients = [await commits.connect(session), await commits.connect(session)]
    const members = clients.map((client) => client.pushConsumer({ ...membership, retryDelayMs: 50 }))
    const runs = members.map((member) =>
      member.run(async (message, { attempt }) => {
        deliveries.begin(message, commits.of(message.queue))
        const sequence = sequenceOf(message)
        if (sequence % failsEvery === 0 && attempt === 1) throw new Error('a listener that fails once')
        if (sequence % hangsEvery === 0) await gate.pass()
        deliveries.returned(message)
      }),
    )
    const sampler = new OffsetSampler(session.client, group, queuesOf(session))
    await until(session, 'the queues are shared', () => members.every((member) => member.assignment().length === 4))
    for (let round = 0; round < rounds; round++) {
      await more(session, load, sampler)
      gate.close()
      const leader = await leaderName(session)
      const committedBefore = sampler.total
      await kill(session, [leader])
      const before = load.acknowledged
      await until(session, 'the new leader acknowledges', () => load.acknowledged > before)
      gate.open()
      await until(session, 'the group commits to the new leader', () => sampler.total > committedBefore)
      start(session, [leader])
      await session.cluster.waitHealthy(patienceMs)
    }
    await more(session, load, sampler)
    await load.stop()
    await until(session, 'everything is committed', () => sampler.total >= load.acknowledged)
    await Promise.all(members.map((member) => member.close()))
    await Promise.all(runs)
    await sampler.stop()

    expect(sampler.setbacks).toEqual([])
    expect(deliveries.afterCommit).toEqual([])
    deliveries.expectAll(placesOf(load))
    expect(deliveries.distinct).toBe(load.acknowledged)
    // No member came or went: its memory outlives the leader, so that only what failed came again.
    expect(deliveries.afterReturn).toEqual([])
    expect(deliveries.repeated).toBeGreaterThan(0)
    expect(load.errors).toEqual([])
    await expectIntact(session, load, topic)
    await Promise.all([producer.close(), ...clients.map((client) => client.close())])
  })
})

test('B5, P4: leader and one member killed at once: the other member takes over at the committed offsets, none moves back, all is consumed, nothing seen as committed comes again', async () => {
  await withCluster(async (session) => {
    const producer = session.client.producer({ sendTimeoutMs: patienceMs })
    const load = await startLoad(session, producer, { topic, queues })
    const deliveries = new Deliveries()
    const sampler = new OffsetSampler(session.client, group, queuesOf(session))
    const onMessage = (message: Place): void => {
      deliveries.begin(message, sampler.committed(message.queue))
      deliveries.returned(message)
    }
    const survivor = session.client.pushConsumer(membership)
    const run = survivor.run(onMessage)
    const victim = new MemberProcess(session)
    try {
      await until(session, 'the queues are shared', () => survivor.assignment().length === 4)
      await until(session, 'the other member consumes', () => victim.seen.length > perPhase / 4)
      await more(session, load, sampler)
      const leader = await leaderName(session)
      const committedBefore = queuesOf(session).map((queue) => sampler.committed(queue))
      victim.kill()
      await kill(session, [leader])
      await victim.ended
      // Its deliveries lie before all that follow, and none of them was committed yet when it began.
      const early = new Set(victim.seen.map(({ queue, offset }) => `${queue.queue}/${offset}`))
      expect(early.size).toBe(victim.seen.length)
      start(session, [leader])
      await until(session, 'the other member has all queues', () => survivor.assignment().length === queues)
      await more(session, load, sampler)
      await load.stop()
      await until(session, 'everything is committed', () => sampler.total >= load.acknowledged)
      await survivor.close()
      await run
      await sampler.stop()
      for (const message of victim.seen) {
        deliveries.begin(message, 0)
        deliveries.returned(message)
      }
      expect(sampler.setbacks).toEqual([])
      expect(deliveries.afterCommit).toEqual([])
      for (const [queue, offset] of committedBefore.entries())
        expect(sampler.committed({ topic, queue })).toBeGreaterThanOrEqual(offset)
      deliveries.expectAll(placesOf(load))
      expect(deliveries.distinct).toBe(load.acknowledged)
      expect(load.errors).toEqual([])
      await producer.close()
    } finally {
      victim.kill()
    }
  })
})

interface Place {
  readonly queue: MessageQueue
  readonly offset: number
}

/** Listeners wait here while it is closed. */
class Gate {
  #waiting: (() => void)[] | null = null

  close(): void {
    this.#waiting ??= []
  }

  open(): void {
    for (const wake of this.#waiting?.splice(0) ?? []) wake()
    this.#waiting = null
  }

  async pass(): Promise<void> {
    const waiting = this.#waiting
    if (waiting) await new Promise<void>((resolve) => waiting.push(resolve))
  }
}

/** A member of the group as a process of its own: `ledgermq consume --group`, which prints what it consumes. */
class MemberProcess {
  readonly seen: Place[] = []
  readonly ended: Promise<void>
  readonly kill: () => void

  constructor({ plan }: Session) {
    const entry = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
    const namesrv = plan.namesrvs.map(({ port }) => `127.0.0.1:${port}`).join(',')
    const args = ['consume', topic, '--group', group, '--from', 'start', '-o', 'json', '--namesrv', namesrv]
    const child = spawn(process.execPath, [entry, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      // The last line of a killed process may be cut; what it stood for was not returned from.
      if (line.endsWith('}')) this.seen.push(JSON.parse(line) as Place)
    })
    this.ended = new Promise((resolve) => lines.once('close', resolve))
    this.kill = () => child.kill('SIGKILL')
  }
}

/** A phase of undisturbed work: so many more messages acknowledged and committed by the group. */
async function more(session: Session, load: Load, sampler: OffsetSampler): Promise<void> {
  const acknowledged = load.acknowledged + perPhase
  const committed = sampler.total + perPhase / 2
  await until(session, 'more is acknowledged', () => load.acknowledged >= acknowledged)
  await until(session, 'more is committed', () => sampler.total >= committed)
}

function queuesOf({ plan }: Session): readonly MessageQueue[] {
  const brokerGroup = plan.nodes[0]?.group ?? ''
  return Array.from({ length: queues }, (_, queue) => ({ topic, group: brokerGroup, queue }))
}

function placesOf(load: Load): readonly { readonly topic: string; readonly queue: number; readonly offset: number }[] {
  return load.acknowledgements.map(({ queue, offset }) => ({ topic, queue, offset }))
}

function sequenceOf(message: ConsumedMessage): number {
  return Number(message.properties['sequence'])
}
