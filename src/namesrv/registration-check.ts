/**
 * What a namesrv believes of a registration or a route request before it looks at its table. Called for every
 * message that comes in; throws LedgerErrors, keeps nothing.
 */
import { LedgerError } from '../common/errors.ts'
import { queuesPerTopicMax, topicsPerRequestMax } from '../message/limits.ts'
import type { Registration, TopicInfo } from '../rpc/methods.ts'

export const topicsPerGroupMax = 50_000
const identifier = /^[a-zA-Z0-9._-]{1,120}$/
const address = /^[^\s:/@]{1,253}:\d{1,5}$|^\[[0-9a-fA-F:.%]{2,64}\]:\d{1,5}$/
/** Brokers also register topics of the system, whose names clients may not use for their own. */
const topicName = /^[%|a-zA-Z0-9_-]{1,255}$/

/** Throws INVALID_PARAMETER with the field that is wrong. */
export function checkRegistration(registration: Registration): void {
  for (const field of ['cluster', 'group', 'node', 'incarnation'] as const)
    if (!identifier.test(registration[field])) fail(`${field} ${show(registration[field])} is no name`)
  const port = Number(registration.address.slice(registration.address.lastIndexOf(':') + 1))
  if (!address.test(registration.address) || port < 1 || port > 65_535)
    fail(`address ${show(registration.address)} is not host:port`)
  if (registration.role !== 'leader' && registration.role !== 'follower')
    fail(`role ${show(registration.role)} is neither leader nor follower`)
  if (!isCount(registration.term)) fail(`term ${registration.term} is no whole number`)
  if (registration.role === 'leader' && registration.term < 1) fail('a leader has a term of at least 1')
  if (!isCount(registration.topicsVersion)) fail(`topicsVersion ${registration.topicsVersion} is no whole number`)
  if (registration.topics.length > topicsPerGroupMax)
    fail(`${registration.topics.length} topics, at most ${topicsPerGroupMax} are allowed`)
  for (const topic of registration.topics) checkTopic(topic)
}

/** Throws INVALID_PARAMETER for too many topics or an impossible name. */
export function checkRouteTopics(topics: readonly string[]): void {
  if (topics.length > topicsPerRequestMax)
    fail(`${topics.length} topics, at most ${topicsPerRequestMax} are allowed in a request`)
  for (const topic of topics) if (!topicName.test(topic)) fail(`topic name ${show(topic)} is not allowed`)
}

function checkTopic(topic: TopicInfo): void {
  const { config, topicId } = topic
  if (!topicName.test(config.topic)) fail(`topic name ${show(config.topic)} is not allowed`)
  if (!isCount(topicId)) fail(`topic id of ${config.topic} is no whole number`)
  for (const count of [config.readQueues, config.writeQueues])
    if (!isCount(count) || count > queuesPerTopicMax) fail(`queue count ${count} of ${config.topic} is not allowed`)
  if (!isCount(config.permission) || config.permission > 7) fail(`permission ${config.permission} is not allowed`)
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

/** Quoted and cut, so that control characters never reach a log or a terminal. */
function show(text: string): string {
  return JSON.stringify(text.slice(0, 160))
}

function fail(message: string): never {
  throw new LedgerError('INVALID_PARAMETER', message)
}
