/** The calls of group members, handed to the coordinator. Registered by `register.ts`. */
import { brokerMethods } from '../../rpc/methods.ts'
import type { ServerRoutes } from '../../rpc/transport.ts'
import type { GroupCoordinator } from '../group/coordinator.ts'
import { waitOptions } from './leadership.ts'

export function registerGroupHandlers(routes: ServerRoutes, coordinator: GroupCoordinator): void {
  routes.unary(brokerMethods.groupHeartbeat, (request, context) => coordinator.heartbeat(request, waitOptions(context)))
  routes.unary(brokerMethods.leaveGroup, (request, context) => coordinator.leave(request, waitOptions(context)))
}
