/** What operators ask and set about consumer groups. Registered by `register.ts`; the leader alone answers. */
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName } from '../../message/names.ts'
import type {
  DescribeGroupReply,
  GroupQueue,
  GroupSettingsChange,
  GroupSettings as WireSettings,
} from '../../rpc/group-messages.ts'
import { adminMethods } from '../../rpc/methods.ts'
import type { ServerRoutes } from '../../rpc/transport.ts'
import { type GroupSettings, type GroupStart, type Strategy, startIds, strategyIds } from '../apply/group-config.ts'
import type { GroupAssignment, ReplicaApi, StateMachineApi } from '../contract.ts'
import { becomeCurrent, waitOptions } from './leadership.ts'
import { checkCount } from './numbers.ts'
import { seekGroup } from './seek-group.ts'
import { change } from './topics.ts'

/** Strategies that this build can assign by. */
const supported: readonly Strategy[] = ['averagely', 'by_circle', 'consistent_hash']

export function registerGroupAdminHandlers(routes: ServerRoutes, replica: ReplicaApi): void {
  routes.unary(adminMethods.setGroup, async ({ group, change: changed }, context) => {
    checkGroupName(group)
    await becomeCurrent(replica, waitOptions(context))
    const settings = changedSettings(replica.machine.groupSettings.get(group), changed)
    await change(replica, { kind: 'set_group', group, settings }, context)
    return { settings: toWire(settings) }
  })
  routes.unary(adminMethods.describeGroup, async ({ group }, context) => {
    checkGroupName(group)
    await becomeCurrent(replica, waitOptions(context))
    return describe(replica, group)
  })
  routes.unary(adminMethods.listGroups, async (_request, context) => {
    await becomeCurrent(replica, waitOptions(context))
    const { machine } = replica
    return {
      groups: machine.groupNames().map((group) => {
        const { generation, members } = machine.assignment(group)
        return { group, generation, members: members.length, paused: machine.groupSettings.get(group).paused }
      }),
    }
  })
  routes.unary(adminMethods.deleteGroup, async ({ group }, context) => {
    checkGroupName(group)
    await change(replica, { kind: 'delete_group', group }, context)
    return {}
  })
  routes.unary(adminMethods.seekGroup, (request, context) => seekGroup(replica, request, context))
}

function describe({ machine, group: brokerGroup }: ReplicaApi, group: string): DescribeGroupReply {
  const isKnown = machine.groupNames().includes(group) || machine.received.ofGroup(group).length > 0
  if (!isKnown)
    throw new LedgerError(
      'SUBSCRIPTION_GROUP_NOT_EXIST',
      `group ${group} does not exist in broker group ${brokerGroup}`,
    )
  const assignment = machine.assignment(group)
  return {
    group,
    settings: toWire(machine.groupSettings.get(group)),
    settingsStored: machine.groupSettings.has(group),
    generation: assignment.generation,
    members: assignment.members.map(({ member, topics }) => ({ member, topics })),
    queues: queuesOf(machine, group, assignment),
  }
}

/** Owned ones and committed ones, in the order of their topics. */
function queuesOf(machine: StateMachineApi, group: string, { members }: GroupAssignment): readonly GroupQueue[] {
  const owners = new Map<string, string>()
  const found = new Map<string, { readonly topicId: number; readonly queue: number }>()
  for (const { member, queues } of members)
    for (const at of queues) {
      owners.set(keyOf(at), member)
      found.set(keyOf(at), at)
    }
  for (const at of machine.committedOffsets(group)) found.set(keyOf(at), at)
  const sorted = [...found.values()].sort((a, b) => a.topicId - b.topicId || a.queue - b.queue)
  return sorted.flatMap((at) => {
    const topic = machine.topicById(at.topicId)?.config.topic
    const range = machine.queueRange(at.topicId, at.queue)
    if (topic === undefined || !range) return []
    const committed = machine.committedOffset(group, at.topicId, at.queue)
    const lag = range.max - Math.max(range.min, committed ?? range.min)
    const { queue } = at
    const entry = { topic, queue, minOffset: range.min, maxOffset: range.max, lag, member: owners.get(keyOf(at)) ?? '' }
    return [committed === undefined ? entry : { ...entry, committedOffset: committed }]
  })
}

function keyOf({ topicId, queue }: { readonly topicId: number; readonly queue: number }): string {
  return `${topicId}/${queue}`
}

function toWire({ retryDelaysMs, ...settings }: GroupSettings): WireSettings {
  return { ...settings, retryDelays: retryDelaysMs.map((delayMs) => ({ delayMs })) }
}

/** Numbers and names are judged here, bounds by apply. */
function changedSettings(before: GroupSettings, change: GroupSettingsChange | undefined): GroupSettings {
  // A message field that is not set arrives as nothing, whatever the types say.
  if (!change) throw new LedgerError('INVALID_REQUEST', 'change is missing')
  const { retryDelays, strategy = before.strategy, start = before.start } = change
  if (!isStrategy(strategy))
    throw new LedgerError('INVALID_PARAMETER', `strategy must be one of ${supported.join(', ')}, not ${strategy}`)
  if (!isStart(start))
    throw new LedgerError('INVALID_PARAMETER', `start must be one of ${Object.keys(startIds).join(', ')}, not ${start}`)
  const delaysMs = retryDelays.map(({ delayMs }) => checkCount(delayMs, 'delayMs'))
  return {
    retriesMax: checkCount(change.retriesMax ?? before.retriesMax, 'retriesMax'),
    retryDelaysMs: delaysMs.length > 0 ? delaysMs : before.retryDelaysMs,
    ordered: change.ordered ?? before.ordered,
    strategy,
    start,
    startTime: checkCount(change.startTime ?? before.startTime, 'startTime'),
    paused: change.paused ?? before.paused,
  }
}

function isStrategy(name: string): name is Strategy {
  return Object.hasOwn(strategyIds, name) && supported.includes(name as Strategy)
}

function isStart(name: string): name is GroupStart {
  return Object.hasOwn(startIds, name)
}
