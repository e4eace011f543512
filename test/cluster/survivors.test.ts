import { expect, test } from 'vitest'
import type { Session } from '../../src/cli/fast-try/session.ts'
import { type Client, type ConsumedBatch, connect, type Producer, type PullConsumer } from '../../src/client/mod.ts'
import { toLedgerError } from '../../src/common/errors.ts'
import { PullClient } from '../src/broker/handler/support.ts'
import { AwakeTime } from '../support/awake-time.ts'
import {
  channelTo,
  expectIntact,
  kill,
  leaderName,
  nodeNames,
  patienceMs,
  start,
  startLoad,
  until,
  waitEqualCommit,
  withCluster,
} from './support.ts'

const topic = 'Survivors'
const loadedMessages = 600
const deadlineMs = 2_000
/** A busy machine fires timers late. */
const lateMsMax = 500
const queues = 8
const honestCodes = ['NO_QUORUM', 'OUTCOME_UNKNOWN']

/** Whoever is left over from the three, by what it was. */
const cases = ['leader', 'follower'] as const

test.each(cases)(
  'P1: two of three killed after the load: the remaining former %s serves every message, refuses writes in time, and all go on after the restart',
  async (survivorWas) => {
    await withCluster(async (session) => {
      const early = session.client.pullConsumer()
      const producer = session.client.producer({ sendTimeoutMs: patienceMs })
      const load = await startLoad(session, producer, { topic, queues })
      await early.assign(topic, { from: 'first' })
      const seen = new Reading(early)
      await until(session, 'the load is acknowledged', () => load.acknowledged >= loadedMessages)
      await load.stop()
      expect(load.errors).toEqual([])
      await waitEqualCommit(session)
      const { survivor, killed } = await killTwo(session, survivorWas)

      await using newcomer = await connectTo(session)
      const late = newcomer.pullConsumer()
      await late.assign(topic, { from: 'first' })
      const reading = new Reading(late)
      await until(session, 'the survivor gave every message', () => reading.drainReady(load.acknowledged))
      expect(reading.nodes()).toEqual([survivor])
      expect(reading.places()).toEqual(load.acknowledgements.map(placeOf).sort())
      await expectRefusals(session, producer)

      start(session, killed)
      const again = await producer.send({ topic, body: 'again' }, { timeoutMs: patienceMs })
      const place = placeOf({ group: again.queue.group, queue: again.queue.queue, offset: again.offset })
      for (const consumer of [reading, seen])
        await until(session, 'the consumer goes on', async () => {
          await consumer.drainReady(Number.POSITIVE_INFINITY)
          return consumer.places().includes(place)
        })
      // What was refused with an unknown outcome may be there, once; what was acknowledged must be.
      expect(seen.places()).toEqual(expect.arrayContaining(load.acknowledgements.map(placeOf)))
      await Promise.all([early.close(), late.close(), producer.close()])
    })
  },
)

test.each(cases)(
  'P1, B4: two of three killed under load: the remaining former %s serves a gapless prefix and tells how far it knows, and all go on after the restart',
  async (survivorWas) => {
    await withCluster(async (session) => {
      const producer = session.client.producer({ sendTimeoutMs: deadlineMs })
      const load = await startLoad(session, producer, { topic, queues })
      await until(session, 'the load is acknowledged', () => load.acknowledged >= loadedMessages)
      const { survivor, killed } = await killTwo(session, survivorWas)
      const knowledge = await waitSettled(session, survivor)

      const consumer = session.client.pullConsumer()
      await consumer.assign(topic, { from: 'first' })
      const reading = new Reading(consumer)
      const known = await messagesOf(session, survivor)
      await until(session, 'the survivor gave every message it knows', () => reading.drainReady(known))
      expect(reading.nodes()).toEqual([survivor])
      const batches = [...reading.batches]
      expect(new Set(batches.map(({ replica }) => replica.appliedIndex))).toEqual(new Set([knowledge.appliedIndex]))
      for (const { index, replica } of batches) {
        expect(index).toBeLessThanOrEqual(replica.appliedIndex)
        expect(replica.appliedIndex).toBeLessThanOrEqual(replica.commitIndex)
      }
      const prefix = reading.places()
      await until(session, 'a send under load was refused', () => load.errors.length > 0)
      await expectRefusals(session, producer)

      start(session, killed)
      const before = load.acknowledged
      await until(session, 'the load is acknowledged again', () => load.acknowledged > before + loadedMessages)
      await load.stop()
      expect(load.errors.filter((error) => !honestCodes.some((code) => error.startsWith(`${code}:`)))).toEqual([])
      await expectIntact(session, load, topic)

      // The same consumer reads on to the end; all that lies at or before the index that was told had been read before.
      const all = await messagesInAll(session)
      expect(all).toBeGreaterThanOrEqual(load.acknowledged)
      await until(session, 'the consumer read everything', () => reading.drainReady(all))
      expect(reading.places(knowledge.appliedIndex)).toEqual(prefix)
      expect(reading.places()).toEqual(expect.arrayContaining(load.acknowledgements.map(placeOf)))
      await Promise.all([consumer.close(), producer.close()])
    })
  },
)

function placeOf(at: { readonly group: string; readonly queue: number; readonly offset: number }): string {
  return `${at.group}/${at.queue}/${at.offset}`
}

/** What one consumer was given. The consumer itself checks that the offsets of a queue are contiguous. */
class Reading {
  readonly batches: ConsumedBatch[] = []
  readonly #consumer: PullConsumer
  #messages = 0

  constructor(consumer: PullConsumer) {
    this.#consumer = consumer
  }

  /** Takes what is there; true when `count` messages were read in all. */
  async drainReady(count: number): Promise<boolean> {
    while (this.#messages < count) {
      const batch = await this.#consumer.poll()
      if (!batch) return false
      this.batches.push(batch)
      this.#messages += batch.count
    }
    return true
  }

  nodes(): readonly string[] {
    return [...new Set(this.batches.map((batch) => batch.replica.node))]
  }

  /** Every message's place, each once, up to this log index. */
  places(indexMax: number = Number.POSITIVE_INFINITY): readonly string[] {
    const all = this.batches
      .filter((batch) => batch.index <= indexMax)
      .flatMap(({ queue, messages }) =>
        messages.map(({ offset }) => placeOf({ group: queue.group, queue: queue.queue, offset })),
      )
      .sort()
    expect(new Set(all).size).toBe(all.length)
    return all
  }
}

/** A client that has never seen more than the survivor. */
function connectTo({ plan }: Session): Promise<Client> {
  return connect({ namesrv: plan.namesrvs.map(({ port }) => `127.0.0.1:${port}`) })
}

/** Kills all but one at once. */
async function killTwo(
  session: Session,
  survivorWas: (typeof cases)[number],
): Promise<{ readonly survivor: string; readonly killed: readonly string[] }> {
  const leader = await leaderName(session)
  const followers = nodeNames(session).filter((name) => name !== leader)
  const survivor = survivorWas === 'leader' ? leader : (followers[0] ?? '')
  const killed = nodeNames(session).filter((name) => name !== survivor)
  await kill(session, killed)
  return { survivor, killed }
}

/** Waits until the survivor has given up to lead or follow and has applied all it knows to be committed. */
async function waitSettled(session: Session, name: string): Promise<{ readonly appliedIndex: number }> {
  let appliedIndex = 0
  await until(session, `${name} follows nobody and has applied what it knows`, async () => {
    const status = (await session.cluster.view()).find(({ plan }) => plan.name === name)?.status
    if (!status || status.role === 'leader' || status.leader !== '') return false
    appliedIndex = status.appliedIndex
    return status.appliedIndex === status.commitIndex
  })
  return { appliedIndex }
}

/** So many messages this replica knows of, as it tells everyone who pulls. */
async function messagesOf(session: Session, name: string): Promise<number> {
  const node = session.plan.nodes.find((one) => one.name === name)
  const channel = channelTo(node?.clientPort ?? 0)
  try {
    const pull = new PullClient(channel)
    const ids = Array.from({ length: queues }, (_, queue) => pull.start({ topic, queue, bytesMax: 1 }))
    await until(session, 'every queue is answered', () => ids.every((id) => pull.answer(id) !== undefined))
    pull.sink.end()
    const answers = await Promise.all(ids.map((id) => pull.reply(id)))
    for (const answer of answers) expect(answer).toMatchObject({ code: 0 })
    return answers.reduce((sum, { maxOffset }) => sum + maxOffset, 0)
  } finally {
    channel.close()
  }
}

/** So many messages the topic has now. */
async function messagesInAll({ client }: Session): Promise<number> {
  const groups = await client.admin().describeTopic(topic)
  return groups.flatMap((group) => group.queues).reduce((sum, { maxOffset }) => sum + maxOffset, 0)
}

/** Sends that nobody can commit: each is answered honestly and within its deadline. */
async function expectRefusals({ client }: Session, producer: Producer): Promise<void> {
  using awake = new AwakeTime()
  const refused = async (by: Producer): Promise<void> => {
    const startedMs = awake.ms
    const error = await by.send({ topic, body: 'in vain' }, { timeoutMs: deadlineMs }).then(
      ({ offset }) => expect.unreachable(`acknowledged at ${offset} without a quorum`),
      (cause: unknown) => toLedgerError(cause),
    )
    expect(honestCodes).toContain(error.code)
    expect(awake.ms - startedMs).toBeLessThan(deadlineMs + lateMsMax)
  }
  await using fresh = client.producer()
  await Promise.all([...Array.from({ length: 20 }, () => refused(producer)), refused(fresh)])
}
