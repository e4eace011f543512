/**
 * Status of this replica, and the probe of the client's fault detector. Registered by `register.ts`. Both answer at
 * once from what this node knows, whatever its role: they are asked when something is wrong.
 */
import { adminMethods, brokerMethods } from '../../rpc/methods.ts'
import type { ServerRoutes } from '../../rpc/transport.ts'
import type { HandlerContext } from './context.ts'

export function registerStatusHandlers(routes: ServerRoutes, context: HandlerContext): void {
  const { replica } = context
  routes.unary(adminMethods.getReplicaStatus, async () => context.status())
  routes.unary(brokerMethods.probe, async () => ({
    group: replica.group,
    node: replica.node,
    leader: replica.leading,
  }))
}
