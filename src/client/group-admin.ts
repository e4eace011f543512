/**
 * What operators ask and set about consumer groups, on every broker group. Made by `client.admin().consumerGroups()`.
 *
 * A group lives on each broker group by itself: settings are the same everywhere, positions are those of its queues.
 */
import { type ErrorCode, LedgerError, toLedgerError } from '../common/errors.ts'
import { checkGroupName, checkReadableTopicName } from '../message/names.ts'
import type {
  DescribeGroupReply,
  GroupSettings,
  GroupSummary,
  SeekGroupReply,
  SeekGroupRequest,
  SeekPosition,
} from '../rpc/group-messages.ts'
import { adminMethods } from '../rpc/methods.ts'
import type { UnaryMethod } from '../rpc/transport.ts'
import type { AdminOptions } from './admin.ts'
import { checkOptions, checkSettings } from './arguments.ts'
import { checkArgument } from './options.ts'

/** Of all broker groups that the client knows. */
export interface GroupAdminPorts {
  readonly brokerGroups: () => readonly string[]
  readonly call: <Request, Response>(
    brokerGroup: string,
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: AdminOptions,
  ) => Promise<Response>
}

/** What is absent stays as it is. */
export interface GroupSettingsOptions {
  /** RocketMQ's retryMaxTimes: deliveries after the first before a message becomes a dead letter. Default 16. */
  readonly retriesMax?: number
  /** Before the first, second, ... of them; the last one counts for all that follow. Default 10 s to 2 h. */
  readonly retryDelaysMs?: readonly number[]
  readonly ordered?: boolean
  readonly strategy?: 'averagely' | 'by_circle' | 'consistent_hash'
  /** Members are assigned nothing. */
  readonly paused?: boolean
}

/** What one broker group says. */
export type GroupDescription = DescribeGroupReply & { readonly brokerGroup: string }
export type ListedGroup = GroupSummary & { readonly brokerGroup: string }

/** Where to; `group`: where another group is. */
export type SeekTarget =
  | 'first'
  | 'last'
  | { readonly time: number }
  | { readonly offset: number }
  | { readonly group: string }

/** What a seek would do, or did, on one broker group. */
export interface SeekPlan {
  readonly brokerGroup: string
  readonly group: string
  readonly topic: string
  /** In which it was looked at: carried out only while the group is still at it. */
  readonly generation: number
  readonly queues: readonly SeekPosition[]
  readonly target: SeekTarget
}

export class GroupAdmin {
  readonly #ports: GroupAdminPorts

  constructor(ports: GroupAdminPorts) {
    this.#ports = ports
  }

  /** Changes settings on all broker groups. Returns them as they are now. */
  async set(
    group: string,
    settings: GroupSettingsOptions,
    options: AdminOptions = {},
  ): Promise<readonly GroupSettings[]> {
    checkOptions(options)
    checkGroupName(group)
    checkSettings('settings', settings)
    const { retryDelaysMs = [], ...rest } = settings
    const change = { ...rest, retryDelays: retryDelaysMs.map((delayMs) => ({ delayMs })) }
    const replies = await this.#onAll(adminMethods.setGroup, { group, change }, options)
    return replies.map(({ settings: now }) => now)
  }

  /** Settings, members, offsets and lag. Throws SUBSCRIPTION_GROUP_NOT_EXIST when no broker group knows it. */
  async describe(group: string, options: AdminOptions = {}): Promise<readonly GroupDescription[]> {
    checkOptions(options)
    checkGroupName(group)
    return await this.#onSome(adminMethods.describeGroup, { group }, options, group)
  }

  async list(options: AdminOptions = {}): Promise<readonly ListedGroup[]> {
    checkOptions(options)
    const lists = await this.#onAll(adminMethods.listGroups, {}, options)
    return lists.flatMap(({ brokerGroup, groups }) => groups.map((group) => ({ brokerGroup, ...group })))
  }

  /** Forgets a group without members. Throws SUBSCRIPTION_GROUP_NOT_EXIST when no broker group knows it. */
  async delete(group: string, options: AdminOptions = {}): Promise<void> {
    checkOptions(options)
    checkGroupName(group)
    await this.#onSome(adminMethods.deleteGroup, { group }, options, group)
  }

  /** What a seek to there would do; nothing is changed. */
  async previewSeek(
    group: string,
    topic: string,
    target: SeekTarget,
    options: AdminOptions = {},
  ): Promise<readonly SeekPlan[]> {
    checkOptions(options)
    checkGroupName(group)
    checkReadableTopicName(topic)
    const request = seekRequest(group, topic, target)
    const replies = await this.#onSome(adminMethods.seekGroup, request, options, topic, 'TOPIC_NOT_EXIST')
    return replies.map((reply) => planOf(reply, { group, topic, target }))
  }

  /**
   * Carries one plan out and returns what is committed now. Throws ILLEGAL_GENERATION when members came or went since;
   * also when an answer was lost and it was carried out: preview again, and see.
   */
  async seek(plan: SeekPlan, options: AdminOptions = {}): Promise<SeekPlan> {
    checkOptions(options)
    const { brokerGroup, group, topic, target, generation } = plan
    const request = { ...seekRequest(group, topic, target), expectedGeneration: generation }
    const reply = await this.#ports.call(brokerGroup, adminMethods.seekGroup, request, options)
    return planOf({ brokerGroup, ...reply }, { group, topic, target })
  }

  async #onAll<Request, Response extends object>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: AdminOptions,
  ): Promise<readonly (Response & { readonly brokerGroup: string })[]> {
    return await Promise.all(
      this.#ports.brokerGroups().map(async (brokerGroup) => {
        return { ...(await this.#ports.call(brokerGroup, method, request, options)), brokerGroup }
      }),
    )
  }

  /** On those that know what is asked about; one of them must. */
  async #onSome<Request, Response extends object>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: AdminOptions,
    what: string,
    missing: ErrorCode = 'SUBSCRIPTION_GROUP_NOT_EXIST',
  ): Promise<readonly (Response & { readonly brokerGroup: string })[]> {
    const found = await Promise.all(
      this.#ports.brokerGroups().map(async (brokerGroup) => {
        try {
          return [{ ...(await this.#ports.call(brokerGroup, method, request, options)), brokerGroup }]
        } catch (cause) {
          if (toLedgerError(cause).code === missing) return []
          throw cause
        }
      }),
    )
    if (found.flat().length === 0) throw new LedgerError(missing, `no broker group knows ${what}`)
    return found.flat()
  }
}

function planOf(
  { brokerGroup, generation, queues }: SeekGroupReply & { readonly brokerGroup: string },
  asked: Pick<SeekPlan, 'group' | 'topic' | 'target'>,
): SeekPlan {
  return { brokerGroup, ...asked, generation, queues }
}

function seekRequest(group: string, topic: string, target: SeekTarget): SeekGroupRequest {
  const none = { group, topic, time: 0, offset: 0, otherGroup: '' }
  if (target === 'first' || target === 'last') return { ...none, to: target }
  if (typeof target === 'object' && target !== null) {
    if ('time' in target)
      return { ...none, to: 'time', time: checkArgument('time', target.time, 0, Number.MAX_SAFE_INTEGER) }
    if ('offset' in target)
      return { ...none, to: 'offset', offset: checkArgument('offset', target.offset, 0, Number.MAX_SAFE_INTEGER) }
    if ('group' in target) {
      checkGroupName(target.group)
      return { ...none, to: 'group', otherGroup: target.group }
    }
  }
  throw new LedgerError('INVALID_PARAMETER', "a group seeks to 'first', 'last', { time }, { offset } or { group }")
}
