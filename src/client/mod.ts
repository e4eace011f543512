/**
 * The SDK's only door: everything an application needs to send to and consume from a LedgerMQ cluster. Nothing else of
 * `src/client/` is public.
 *
 * ```ts
 * await using mq = await connect({ namesrv: '127.0.0.1:9876' })
 * await using producer = mq.producer()
 * const { queue, offset } = await producer.send({ topic: 'Orders', body: 'hello' })
 * ```
 */
import { systemClock, systemRandom } from '../common/clock.ts'
import { silentLogger } from '../common/logger.ts'
import { createGrpcTransport } from '../rpc/grpc-transport.ts'
import { checkLogger, checkSettings } from './arguments.ts'
import { type Client, openClient } from './client.ts'
import type { ConnectOptions } from './types.ts'

/**
 * Connects to a cluster through its namesrvs. Throws a LedgerError: CONFIG_INVALID for options that cannot be right,
 * UNAVAILABLE naming every address when no namesrv answers, ABORTED.
 */
export async function connect(options: ConnectOptions): Promise<Client> {
  checkSettings('options', options)
  checkLogger(options.logger)
  const logger = options.logger ?? silentLogger
  const transport = createGrpcTransport({ clock: systemClock, logger })
  return await openClient({ transport, clock: systemClock, random: systemRandom }, options)
}

export { type ErrorCode, type ErrorFacts, errorTable, LedgerError } from '../common/errors.ts'
export type { Logger } from '../common/logger.ts'
export type { Message } from '../message/types.ts'
export type {
  NodeEvent,
  QueueRange,
  ReplicaPeer,
  ReplicaStatusReply as ReplicaStatus,
  TopicConfig,
  TopicInfo,
} from '../rpc/methods.ts'
export type {
  Admin,
  AdminOptions,
  GroupTopic,
  ReplicaReport,
  TopicDescription,
  TopicSettings,
} from './admin.ts'
export type { Client } from './client.ts'
export type { ConsumedBatch, ConsumedMessage, ReplicaKnowledge } from './consumer/consumed-batch.ts'
export type { AssignOptions, PullConsumer } from './consumer/pull-consumer.ts'
export type { Listener, ListenerContext, PushConsumer } from './consumer/push-consumer.ts'
export type { Producer } from './producer/producer.ts'
export { hashSelector, randomSelector } from './queue-selector.ts'
export type {
  ClientStatus,
  ConnectOptions,
  FaultTableName,
  MessageQueue,
  PollOptions,
  ProducerOptions,
  PullConsumerOptions,
  PushConsumerOptions,
  QueueSelector,
  ReadFrom,
  SendOptions,
  SendResult,
  StartFrom,
  WriteToken,
} from './types.ts'
