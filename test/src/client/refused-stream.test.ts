/** Over gRPC: a broker that answers probes but serves no sends, as one that was removed from its group. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LateRoutes } from '../../../src/broker/late-routes.ts'
import { type BatchState, judge } from '../../../src/client/producer/send-rules.ts'
import { type Outcome, RequestStream } from '../../../src/client/request-stream.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { decodeProduceReplies, encodeProduceRequest, type ProduceReply } from '../../../src/rpc/envelopes.ts'
import { createGrpcTransport } from '../../../src/rpc/grpc-transport.ts'
import { brokerMethods } from '../../../src/rpc/methods.ts'
import type { Channel, Server } from '../../../src/rpc/transport.ts'
import { eventually } from '../../support/eventually.ts'

const limits = { openTimeoutMs: 60_000 }
const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger, limits })
let late: LateRoutes
let server: Server
let channel: Channel
let stream: RequestStream<ProduceReply>
let isOutside: boolean
/** Batches that reached the handler of sends. */
let served: number

beforeEach(async () => {
  isOutside = false
  served = 0
  late = new LateRoutes(
    () => new LedgerError('SERVICE_NOT_AVAILABLE', 'REMOVED'),
    () => isOutside,
  )
  late.routes.unary(brokerMethods.probe, async () => ({ group: 'a', node: 'n0', leader: true }))
  late.routes.stream(brokerMethods.produce, () => ({ onMessage: () => void served++, onClosed: () => {} }))
  server = await transport.listen('127.0.0.1:0', (routes) => late.register(routes))
  channel = transport.connect(server.address, 'client')
  stream = new RequestStream<ProduceReply>({
    channel,
    method: brokerMethods.produce,
    decode: decodeProduceReplies,
    onOpen: () => {},
    onClosed: () => {},
  })
})

afterEach(async () => {
  stream.close()
  channel.close()
  await server.close(0)
})

function send(): { outcome: Outcome<ProduceReply> | null } {
  const state: { outcome: Outcome<ProduceReply> | null } = { outcome: null }
  const encode = (requestId: number): Buffer =>
    encodeProduceRequest({ requestId, timeoutMs: 5_000, batch: Buffer.from('batch') })
  stream.request('a', encode, (outcome) => {
    state.outcome = outcome
  })
  return state
}

/** What the sender of a batch does with a request that failed. */
async function verdictOn(state: { outcome: Outcome<ProduceReply> | null }): Promise<ReturnType<typeof judge>> {
  const outcome = await eventually('the request failed', () => state.outcome)
  if (outcome.kind !== 'failed') throw new Error('it was answered')
  const free: BatchState = { tainted: false, idempotent: true, pinned: false, elsewhere: true, hops: 0 }
  return judge(outcome.error, outcome.sent, free)
}

test('P3: a send to a node that refuses the whole stream is not stored, so it may go to another group', async () => {
  isOutside = true
  expect(await verdictOn(send())).toEqual({ kind: 'move', taints: false })
  expect(served).toBe(0)
})

test('P3: a send on a stream that ends because its node was removed may be stored', async () => {
  const sent = send()
  await eventually('the send was taken', () => served === 1)
  isOutside = true
  late.leave()
  expect(await verdictOn(sent)).toEqual({ kind: 'next_replica', taints: true })
})
