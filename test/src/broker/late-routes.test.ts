/** What a broker answers before it has a replica, and once that is outside its group. */
import { expect, test } from 'vitest'
import { LateRoutes } from '../../../src/broker/late-routes.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { adminMethods, brokerMethods } from '../../../src/rpc/methods.ts'
import type { CallContext, StreamHandler } from '../../../src/rpc/transport.ts'

const context: CallContext = { peer: 'client', remainingMs: 1000, signal: new AbortController().signal }

test('P8: streams that began while the node was a member end when it is removed; those that tell why go on', () => {
  const streams = new Map<string, StreamHandler<never, never>>()
  const routes = new LateRoutes(
    () => new LedgerError('SERVICE_NOT_AVAILABLE', 'REMOVED'),
    () => false,
  )
  const handlers = { onMessage: () => {}, onClosed: () => {} }
  routes.routes.stream(brokerMethods.pull, () => handlers)
  routes.routes.stream(adminMethods.watchEvents, () => handlers)
  routes.register({
    unary: () => {},
    stream: (method, handler) => void streams.set(method.name, handler as never),
  })
  const ended: string[] = []
  const open = (name: string): ReturnType<StreamHandler<never, never>> | undefined =>
    streams.get(name)?.(
      {
        write: () => true,
        end: () => {},
        cancel: (error?: Error) => void ended.push(`${name} ${error?.message}`),
      } as never,
      context,
    )
  const closed = open(brokerMethods.pull.name)
  open(brokerMethods.pull.name)
  open(adminMethods.watchEvents.name)
  closed?.onClosed(undefined)
  routes.leave()
  expect(ended).toEqual([`${brokerMethods.pull.name} REMOVED`])
})
