/** What a client leaves behind when it closes: nothing, whatever was made from it and is used on. */
import { expect, test } from 'vitest'
import { openClient } from '../../../src/client/client.ts'
import { ConnectionPool } from '../../../src/client/connection.ts'
import { PushConsumer } from '../../../src/client/consumer/push-consumer.ts'
import { RouteCache } from '../../../src/client/route-cache.ts'
import { StatusHub } from '../../../src/client/status-hub.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import type { Transport } from '../../../src/rpc/transport.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

/** Counts the channels that were not closed. */
function counting(): { readonly transport: Transport; readonly open: Set<string> } {
  const scripted = new ScriptedTransport()
  scripted.route = routeOf({ a: {} }, { T: { a: 1 } })
  addBrokers(scripted)
  const open = new Set<string>()
  let count = 0
  const connect: Transport['connect'] = (address) => {
    const name = `${address}#${count++}`
    open.add(name)
    return { ...scripted.connect(address), close: () => open.delete(name) }
  }
  return { transport: { listen: scripted.listen, connect }, open }
}

test('an admin that is used after its client was closed opens no connection that stays', async () => {
  const { transport, open } = counting()
  const client = await openClient({ transport, clock: systemClock, random: systemRandom }, { namesrv: 'ns:1' })
  const admin = client.admin()
  await client.close()
  await admin.listTopics().catch(() => {})
  await admin.clusterStatus()
  expect([...open]).toEqual([])
})

test('the events of nodes end with their client, and their connections too', async () => {
  const { transport, open } = counting()
  const client = await openClient({ transport, clock: systemClock, random: systemRandom }, { namesrv: 'ns:1' })
  const events = client.admin().watchEvents()
  const next = events.next()
  expect(open.size).toBe(4)
  await client.close()
  expect(await next).toMatchObject({ done: true })
  expect([...open]).toEqual([])
})

test('a push consumer that is closed before it runs listens to no routes', async () => {
  const { transport } = counting()
  const ports = { transport, clock: systemClock, random: systemRandom, logger: silentLogger, status: new StatusHub() }
  const routes = new RouteCache({ ...ports, namesrv: ['ns:1'], requestTimeoutMs: 1_000 })
  const pool = new ConnectionPool(transport, { onOpen: () => {}, onClosed: () => {} })
  let listeners = 0
  const listen = routes.listen.bind(routes)
  routes.listen = (listener) => {
    const stop = listen(listener)
    listeners++
    return () => {
      listeners--
      stop()
    }
  }
  await routes.start()
  const options = { group: 'G', subscribe: ['T'] }
  const consumer = new PushConsumer({ ...ports, routes, pool, requestTimeoutMs: 1_000, onClosed: () => {} }, options)
  await consumer.run(() => {}, { signal: AbortSignal.abort() })
  expect(listeners).toBe(0)
  routes.close()
})
