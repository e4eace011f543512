/**
 * Everything that clients may call on a broker, in one place. Called by `broker.ts` when its server is set up.
 */
import type { ServerRoutes } from '../../rpc/transport.ts'
import { GroupCoordinator } from '../group/coordinator.ts'
import { LongPoll } from '../long-poll.ts'
import { AppliedWaits } from './applied-waits.ts'
import type { HandlerContext } from './context.ts'
import { registerEventHandlers } from './events.ts'
import { registerGroupHandlers } from './groups.ts'
import { LeaderAbsence } from './leader-absence.ts'
import { registerOffsetHandlers } from './offsets.ts'
import { registerProduceHandler } from './produce.ts'
import { registerPullHandler } from './pull.ts'
import { ReadAdvice } from './read-advice.ts'
import { registerStatusHandlers } from './status.ts'
import { registerTopicHandlers } from './topics.ts'

export interface BrokerHandlers {
  /** Ends timers, watches and what follows the replica. The server's streams are ended by closing the server. */
  close(): void
  /** Another replica answers from now on: whoever waits looks again. */
  renewed?(): void
}

/** Registers all handlers; they live until `close`, which comes before the replica stops. */
export function registerBrokerHandlers(routes: ServerRoutes, context: HandlerContext): BrokerHandlers {
  const { replica, clock, events, logger, settings } = context
  const longPoll = new LongPoll({ clock, parkedMax: settings.parkedPullsMax })
  const appliedWaits = new AppliedWaits({ clock, parkedMax: settings.parkedPullsMax })
  const absence = new LeaderAbsence({ replica, clock, onLong: () => longPoll.wakeAll() })
  const advice = new ReadAdvice({ clock, status: () => context.status(), tailCacheBytes: settings.tailCacheBytes })
  const coordinator = new GroupCoordinator({ replica, events, clock, logger })
  const unsubscribeRole = replica.onRoleChanged(() => {
    if (!replica.running) longPoll.wakeAll()
  })
  const unsubscribe = replica.onApplied((entry, result) => {
    appliedWaits.applied(entry.index)
    if (result.kind === 'stored' && !result.duplicate) longPoll.wake(result.topicId, result.queue)
    else if (result.kind === 'topic') longPoll.wakeTopic(result.topic.topicId)
    else if (result.kind === 'topic_deleted') longPoll.wakeTopic(result.topicId)
  })
  registerProduceHandler(routes, context)
  registerPullHandler(routes, { context, longPoll, appliedWaits, absence, advice })
  registerOffsetHandlers(routes, replica)
  registerTopicHandlers(routes, replica)
  registerGroupHandlers(routes, coordinator)
  registerStatusHandlers(routes, context)
  const watches = registerEventHandlers(routes, context)
  return {
    renewed: () => {
      // It may have come further by a copy, of whose entries nobody is told.
      appliedWaits.applied(replica.appliedIndex)
      longPoll.wakeAll()
    },
    close: () => {
      unsubscribe()
      unsubscribeRole()
      absence.close()
      coordinator.close()
      watches.close()
    },
  }
}
