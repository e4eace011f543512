/** What a client leaves behind when it closes: nothing, whatever was made from it and is used on. */
import { expect, test } from 'vitest'
import { openClient } from '../../../src/client/client.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
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

test('the events of nodes end with their client, and their connections too', { timeout: 5_000 }, async () => {
  const { transport, open } = counting()
  const client = await openClient({ transport, clock: systemClock, random: systemRandom }, { namesrv: 'ns:1' })
  const events = client.admin().watchEvents()
  const next = events.next()
  expect(open.size).toBe(4)
  await client.close()
  expect(await next).toMatchObject({ done: true })
  expect([...open]).toEqual([])
})
