/** What a sender is told when no replica led until the time was up, whatever each of them said. */
import { expect, test } from 'vitest'
import { openClient } from '../../../src/client/client.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { type ErrorCode, LedgerError, toLedgerError } from '../../../src/common/errors.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

test.each<ErrorCode>(['SERVICE_NOT_AVAILABLE', 'NOT_LEADER', 'NO_QUORUM'])(
  'all replicas say %s: it is NO_QUORUM, not stored, and the reasons are named',
  async (code) => {
    const clock = new ManualClock()
    const transport = new ScriptedTransport()
    transport.route = routeOf({ a: {} }, { T: { a: 1 } })
    addBrokers(transport)
    for (const broker of transport.brokers.values()) {
      broker.onProduce = ({ reply }) => reply(new LedgerError(code, 'not here'))
    }
    const client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
    const producer = client.producer({ sendTimeoutMs: 1_000 })
    const sent = producer.send({ topic: 'T', body: 'x' }).catch(toLedgerError)
    await clock.advance(1_100)
    const error = await sent
    expect(error).toMatchObject({ code: 'NO_QUORUM', stored: 'no' })
    expect((error as LedgerError).facts.attempts?.join()).toContain('not here')
    const closing = client.close()
    await clock.advance(20_000)
    await closing
  },
)
