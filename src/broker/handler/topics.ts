/**
 * Topics: create, update, delete, describe, list. Registered by `register.ts`.
 *
 * What does not depend on the state is judged here, the rest by apply: two requests that race are judged in the order
 * of the log. Names never become file names.
 */
import { frameTypes } from '../../../store/index.ts'
import { LedgerError } from '../../common/errors.ts'
import { queuesPerTopicMax } from '../../message/limits.ts'
import { checkTopicName } from '../../message/names.ts'
import { adminMethods, type TopicConfig, type TopicInfo, type TopicReply } from '../../rpc/methods.ts'
import type { CallContext, ServerRoutes } from '../../rpc/transport.ts'
import { type Command, encodeCommand } from '../apply/command.ts'
import type { ApplyResult, ReplicaApi } from '../contract.ts'
import { failureOf } from './failure.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'

export function registerTopicHandlers(routes: ServerRoutes, replica: ReplicaApi): void {
  routes.unary(adminMethods.createTopic, async ({ config, automatic }, context) => {
    checkConfig(config)
    if (automatic) {
      const existing = await findForAutomatic(replica, config, context)
      if (existing) return { topic: existing }
    }
    return replyOf(await change(replica, { kind: 'create_topic', config }, context))
  })
  routes.unary(adminMethods.updateTopic, async ({ config }, context) => {
    checkConfig(config)
    return replyOf(await change(replica, { kind: 'update_topic', config }, context))
  })
  routes.unary(adminMethods.deleteTopic, async ({ topic, topicId }, context) => {
    checkTopicName(topic)
    await change(replica, { kind: 'delete_topic', topic, ...(topicId === undefined ? {} : { topicId }) }, context)
    return {}
  })
  routes.unary(adminMethods.describeTopic, async ({ topic: name }, context) => {
    checkTopicName(name)
    await becomeCurrent(replica, waitOptions(context))
    const topic = topicNamed(replica, name)
    const queues = Array.from({ length: topic.config.readQueues }, (_, queue) => {
      const range = replica.machine.queueRange(topic.topicId, queue)
      return { queue, minOffset: range?.min ?? 0, maxOffset: range?.max ?? 0 }
    })
    return { topic, queues }
  })
  routes.unary(adminMethods.listTopics, async (_request, context) => {
    await becomeCurrent(replica, waitOptions(context))
    return { topics: replica.machine.topics() }
  })
}

/** Throws TOPIC_NOT_EXIST. The caller has made sure that the state is current. */
export function topicNamed(replica: ReplicaApi, name: string): TopicInfo {
  const topic = replica.machine.topic(name)
  if (!topic) throw new LedgerError('TOPIC_NOT_EXIST', `topic ${name} does not exist in group ${replica.group}`)
  return topic
}

/** Proposes a command and returns its result; a refusal by the state machine is thrown. */
export async function change(
  replica: ReplicaApi,
  command: Command,
  context: CallContext,
): Promise<Exclude<ApplyResult, { readonly kind: 'refused' }>> {
  try {
    const { result } = await replica.propose(frameTypes.command, [encodeCommand(command)], waitOptions(context))
    if (result.kind === 'refused') throw new LedgerError(result.code, result.message)
    return result
  } catch (error) {
    throw failureOf(error)
  }
}

/** A client met an unknown topic: whatever exists by now will do, and nothing is created where that is off. */
async function findForAutomatic(
  replica: ReplicaApi,
  config: TopicConfig,
  context: CallContext,
): Promise<TopicInfo | undefined> {
  await becomeCurrent(replica, waitOptions(context))
  const existing = replica.machine.topic(config.topic)
  if (!existing && !replica.machine.autoCreateTopics)
    throw new LedgerError(
      'TOPIC_NOT_EXIST',
      `topic ${config.topic} does not exist and automatic creation is off in group ${replica.group}`,
    )
  return existing
}

function checkConfig(config: TopicConfig | undefined): void {
  // A message field that is not set arrives as nothing, whatever the types say.
  if (!config) throw new LedgerError('INVALID_REQUEST', 'config is missing')
  checkTopicName(config.topic)
  for (const field of ['readQueues', 'writeQueues'] as const) {
    const count = config[field]
    if (!Number.isSafeInteger(count) || count < 1 || count > queuesPerTopicMax)
      throw new LedgerError('INVALID_PARAMETER', `${field} must be from 1 to ${queuesPerTopicMax}, not ${count}`)
  }
  if (![2, 4, 6].includes(config.permission))
    throw new LedgerError(
      'INVALID_PARAMETER',
      `permission must be 2 (write), 4 (read) or 6 (both), not ${config.permission}`,
    )
}

function replyOf(result: ApplyResult): TopicReply {
  if (result.kind !== 'topic') throw new LedgerError('SYSTEM_ERROR', `a topic command gave ${result.kind}`)
  return { topic: result.topic }
}
