/** Admin calls whose answer is lost on the way back: what was done is done, and is not done again to something else. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Admin } from '../../../src/client/admin.ts'
import { type Client, openClient } from '../../../src/client/client.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import type { Transport } from '../../../src/rpc/transport.ts'
import { ClientCluster } from './client-cluster.ts'

let cluster: ClientCluster
let other: Admin
let client: Client | null = null

beforeEach(async () => {
  cluster = new ClientCluster(['n0'])
  await cluster.start()
  other = (await cluster.connect()).admin()
})

afterEach(async () => {
  await client?.close()
  client = null
  await cluster.end()
})

/** An admin to whom the first answer to this call never comes; `then` happens before it may ask again. */
async function losingAnswer(name: string, then: () => Promise<unknown>): Promise<Admin> {
  const network = cluster.brokers.network.endpoint('loser')
  let isLost = false
  const transport: Transport = {
    ...network,
    connect: (address, purpose) => {
      const channel = network.connect(address, purpose)
      return {
        address: channel.address,
        open: (method, handlers) => channel.open(method, handlers),
        close: () => channel.close(),
        call: async (method, request, options) => {
          const reply = await channel.call(method, request, options)
          if (method.name !== name || isLost) return reply
          isLost = true
          await then()
          throw new LedgerError('UNAVAILABLE', 'the connection broke')
        },
      }
    },
  }
  client = await openClient({ transport, clock: systemClock, random: systemRandom }, { namesrv: 'ns0:9876' })
  return client.admin()
}

test('P4: a delete whose answer is lost is a success, and a delete of nothing is not', async () => {
  await other.createTopic({ topic: 'Orders' })
  const admin = await losingAnswer('DeleteTopic', async () => {})
  await admin.deleteTopic('Orders')
  await expect(other.describeTopic('Orders')).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  await expect(admin.deleteTopic('Orders')).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
})

test('P4: a delete whose answer is lost leaves a topic alone that was created since', async () => {
  const [before] = await other.createTopic({ topic: 'Orders' })
  const admin = await losingAnswer('DeleteTopic', () => other.createTopic({ topic: 'Orders' }))
  await admin.deleteTopic('Orders')
  const [after] = await other.describeTopic('Orders')
  expect(after?.topic.topicId).toBeGreaterThan(before?.topic.topicId ?? 0)
})

test('P4: a create or update whose answer is lost is a success', async () => {
  const creator = await losingAnswer('CreateTopic', async () => {})
  await creator.createTopic({ topic: 'Orders', queues: 2 })
  await client?.close()
  const updater = await losingAnswer('UpdateTopic', async () => {})
  const [updated] = await updater.updateTopic({ topic: 'Orders', queues: 4 })
  expect(updated?.topic.config.writeQueues).toBe(4)
})
