/**
 * What the coordinator believes of a request before it looks at its groups. Called for each heartbeat and leave;
 * throws INVALID_REQUEST for what is no request at all, INVALID_PARAMETER (29) for what is out of bounds.
 */
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName, checkTopicName } from '../../message/names.ts'
import type { GroupHeartbeatRequest } from '../../rpc/methods.ts'

export const sessionTimeoutMsDefault = 10_000
export const sessionTimeoutMsMin = 1000
export const sessionTimeoutMsMax = 60_000
export const topicsPerGroupMax = 1000
/** Printable ASCII without spaces: member ids end up in logs and on terminals. */
const memberName = /^[\x21-\x7e]{1,255}$/

export function checkMember(group: string, member: string): void {
  checkGroupName(group)
  if (!memberName.test(member))
    throw new LedgerError(
      'INVALID_PARAMETER',
      `member ${JSON.stringify(member.slice(0, 160))} must have 1 to 255 printable ASCII characters without spaces`,
    )
}

/** Returns the subscription sorted without repeats, and the session timeout with its default. */
export function checkHeartbeat(request: GroupHeartbeatRequest): {
  readonly topics: readonly string[]
  readonly sessionTimeoutMs: number
} {
  checkMember(request.group, request.member)
  if (!Number.isSafeInteger(request.generation) || request.generation < 0)
    throw new LedgerError('INVALID_REQUEST', `generation ${request.generation} is no whole number`)
  if (!Number.isSafeInteger(request.sessionTimeoutMs) || request.sessionTimeoutMs < 0)
    throw new LedgerError('INVALID_REQUEST', `sessionTimeoutMs ${request.sessionTimeoutMs} is no whole number`)
  const sessionTimeoutMs = request.sessionTimeoutMs === 0 ? sessionTimeoutMsDefault : request.sessionTimeoutMs
  if (sessionTimeoutMs < sessionTimeoutMsMin || sessionTimeoutMs > sessionTimeoutMsMax)
    throw new LedgerError(
      'INVALID_PARAMETER',
      `sessionTimeoutMs ${sessionTimeoutMs} must be between ${sessionTimeoutMsMin} and ${sessionTimeoutMsMax}`,
    )
  const topics = [...new Set(request.topics)].sort()
  if (topics.length === 0) throw new LedgerError('INVALID_PARAMETER', 'a member must subscribe to at least one topic')
  if (topics.length > topicsPerGroupMax)
    throw new LedgerError('INVALID_PARAMETER', `${topics.length} topics, at most ${topicsPerGroupMax} are allowed`)
  for (const topic of topics) checkTopicName(topic)
  return { topics, sessionTimeoutMs }
}
