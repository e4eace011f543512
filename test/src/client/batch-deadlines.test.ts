/** Messages of one batch with different deadlines: what each sender is told must be true. First seen in the simulator. */
import { expect, test } from 'vitest'
import { openClient } from '../../../src/client/client.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { readRecords } from '../../../src/message/batch.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

test('P3: a message whose sender was told "not stored" is in no later attempt of its batch', async () => {
  const clock = new ManualClock()
  const transport = new ScriptedTransport()
  transport.route = routeOf({ a: {} }, { T: { a: 1 } })
  addBrokers(transport)
  const batches: string[][] = []
  let refusing = true
  for (const broker of transport.brokers.values()) {
    const store = broker.onProduce
    broker.onProduce = (produced) => {
      batches.push(readRecords(produced.batch).map((record) => record.body.toString()))
      if (refusing) produced.reply(new LedgerError('NO_QUORUM', 'nobody leads'))
      else store(produced)
    }
  }
  const client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
  const producer = client.producer({ eagerBatches: 1 })
  // The first message holds the queue while the other two meet in one batch.
  const first = producer.send({ topic: 'T', body: 'first' }, { timeoutMs: 400 }).catch((error: unknown) => error)
  await settle(20)
  const hasty = producer.send({ topic: 'T', body: 'hasty' }, { timeoutMs: 1000 }).catch((error: unknown) => error)
  const patient = producer.send({ topic: 'T', body: 'patient' }, { timeoutMs: 8000 })
  await clock.advance(900)
  expect(await first).toMatchObject({ stored: 'no' })
  expect(batches.at(-1)).toEqual(['hasty', 'patient'])
  await clock.advance(200)
  expect(await hasty).toMatchObject({ code: 'NO_QUORUM', stored: 'no' })
  refusing = false
  await clock.advance(2000)
  expect(await patient).toMatchObject({ status: 'SEND_OK' })
  expect(batches.at(-1)).toEqual(['patient'])
  const closing = client.close()
  await clock.advance(20_000)
  await closing
})
