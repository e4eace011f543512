/**
 * The workloads of the benchmark, each against a fresh cluster of real processes: three replicas, fsync on, one
 * topic, 8 queues, 1 KiB messages, one producer process (this one).
 */

import { demonstrate } from '../../src/cli/fast-try/demonstration.ts'
import { type Session, withSession } from '../../src/cli/fast-try/session.ts'
import type { Client, Producer } from '../../src/client/mod.ts'
import { systemClock } from '../../src/common/clock.ts'
import { LedgerError } from '../../src/common/errors.ts'

export interface ProduceResult {
  readonly msgPerSec: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export interface RateResult {
  readonly msgPerSec: number
}

export interface GapResult {
  readonly gapMs: { readonly p50: number; readonly p99: number; readonly max: number }
}

export type WorkloadResult = ProduceResult | RateResult | GapResult

export interface BenchSettings {
  readonly warmUpMs: number
  readonly measureMs: number
  readonly consumeMessages: number
  readonly kills: number
  readonly say: (line: string) => void
}

const topic = 'Bench'
const queues = 8
const body = Buffer.alloc(1024, 'x')
/** Latencies kept per run; far more than any run produces at these rates. */
const samplesMax = 4_000_000

export const workloads: Readonly<Record<string, (settings: BenchSettings) => Promise<WorkloadResult>>> = {
  'produce-1': (settings) => inCluster((session) => produceWindow(session.client, 1, settings)),
  'produce-64': (settings) => inCluster((session) => produceWindow(session.client, 64, settings)),
  'produce-256': (settings) => inCluster((session) => produceWindow(session.client, 256, settings)),
  'produce-1024': (settings) => inCluster((session) => produceWindow(session.client, 1024, settings)),
  'produce-stream': (settings) => inCluster((session) => produceStream(session.client, settings)),
  consume: (settings) => inCluster((session) => consume(session.client, settings)),
  'kill-leader': killLeader,
}

async function inCluster<T>(use: (session: Session) => Promise<T>): Promise<T> {
  const options = { dataDirectory: undefined, nodesPerGroup: 3, groups: 1, namesrvs: 1 }
  return withSession(options, systemClock, async (session) => {
    await session.client.admin().createTopic({ topic, queues })
    return use(session)
  })
}

/** Keeps `inFlight` single sends under way: each answer starts the next. */
async function produceWindow(client: Client, inFlight: number, settings: BenchSettings): Promise<ProduceResult> {
  const producer = client.producer()
  const samples = new Float64Array(samplesMax)
  const startedMs = systemClock.monotonicMs()
  const measureFromMs = startedMs + settings.warmUpMs
  const endMs = measureFromMs + settings.measureMs
  let count = 0
  const worker = async (): Promise<void> => {
    for (;;) {
      const sentMs = systemClock.monotonicMs()
      if (sentMs >= endMs) return
      await producer.send({ topic, body })
      const nowMs = systemClock.monotonicMs()
      if (sentMs >= measureFromMs && nowMs <= endMs && count < samplesMax) samples[count++] = nowMs - sentMs
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  await producer.close()
  const sorted = samples.subarray(0, count).sort()
  const at = (share: number): number => round(sorted[Math.max(0, Math.ceil(count * share) - 1)] ?? 0)
  return { msgPerSec: Math.round((count * 1000) / settings.measureMs), p50Ms: at(0.5), p99Ms: at(0.99) }
}

/** Sends as fast as the producer's bounded buffer takes messages. */
async function produceStream(client: Client, settings: BenchSettings): Promise<RateResult> {
  const producer = client.producer()
  const startedMs = systemClock.monotonicMs()
  const measureFromMs = startedMs + settings.warmUpMs
  const endMs = measureFromMs + settings.measureMs
  let measured = 0
  const onStored = (): void => {
    const nowMs = systemClock.monotonicMs()
    if (nowMs >= measureFromMs && nowMs <= endMs) measured++
  }
  await pump(producer, () => systemClock.monotonicMs() < endMs, onStored)
  await producer.close()
  return { msgPerSec: Math.round((measured * 1000) / settings.measureMs) }
}

/** Sends while `more` says so of the number sent, held back by the window only. Any failed send fails the run. */
async function pump(producer: Producer, more: (sent: number) => boolean, onStored: () => void): Promise<void> {
  let failure: unknown
  let open = 0
  let sent = 0
  let wake = (): void => {}
  const settle = (): void => {
    open--
    if (open < streamWindow) wake()
  }
  while (more(sent) && failure === undefined) {
    while (open < streamWindow && more(sent)) {
      sent++
      open++
      producer
        .send({ topic, body })
        .then(onStored, (error: unknown) => {
          failure = error
        })
        .finally(settle)
    }
    await new Promise<void>((resolve) => (wake = resolve))
  }
  while (open > 0) await new Promise<void>((resolve) => (wake = resolve))
  if (failure !== undefined) throw failure
}

/** Well inside the producer's 64 MiB buffer, and enough that batches are always full. */
const streamWindow = 16_384

async function consume(client: Client, settings: BenchSettings): Promise<RateResult> {
  const producer = client.producer()
  settings.say(`  filling the topic with ${settings.consumeMessages} messages`)
  await pump(
    producer,
    (sent) => sent < settings.consumeMessages,
    () => {},
  )
  await producer.close()
  const consumer = client.pullConsumer({ readFrom: 'leader' })
  for (const queue of await consumer.assign(topic)) await consumer.seek(queue, 'start')
  const startedMs = systemClock.monotonicMs()
  let received = 0
  for await (const batch of consumer.batches()) {
    for (const message of batch.messages)
      if (message.body.length !== body.length) throw new LedgerError('DATA_LOSS', 'a body of another size')
    received += batch.messages.length
    if (received >= settings.consumeMessages) break
  }
  const elapsedMs = systemClock.monotonicMs() - startedMs
  await consumer.close()
  return { msgPerSec: Math.round((received * 1000) / elapsedMs) }
}

async function killLeader(settings: BenchSettings): Promise<GapResult> {
  const options = { dataDirectory: undefined, nodesPerGroup: 3, groups: 1, namesrvs: 1 }
  return withSession(options, systemClock, async (session) => {
    const result = await demonstrate(session, systemClock, {
      script: 'kill-leader',
      runs: settings.kills,
      messagesPerSecond: 1000,
      steadyMs: 1000,
      pauseMs: 0,
      input: undefined,
      say: (line) => settings.say(`  ${line}`),
    })
    if (!result.good) throw new LedgerError('DATA_LOSS', `kill-leader: ${JSON.stringify(result.report)}`)
    return { gapMs: result.report.gapMs }
  })
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
