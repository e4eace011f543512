/** P8: whatever is handed in, the SDK answers with a coded error that says what is wrong and what to do. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import { type ConnectOptions, connect } from '../../../src/client/mod.ts'
import { systemClock, systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

let transport: ScriptedTransport
let client: Client

beforeEach(async () => {
  transport = new ScriptedTransport()
  transport.route = routeOf({ a: {} }, { T: { a: 1 } })
  addBrokers(transport)
  client = await openClient({ transport, clock: systemClock, random: systemRandom }, { namesrv: 'ns:1' })
})

afterEach(() => client.close())

async function errorOf(act: () => unknown): Promise<unknown> {
  try {
    const result = await act()
    // An iterator says it at its first step.
    if (typeof result === 'object' && result !== null && 'next' in result) await (result.next as () => unknown)()
  } catch (error) {
    return error
  }
  return null
}

function expectCoded(error: unknown, name: string): void {
  expect(error).toBeInstanceOf(LedgerError)
  if (!(error instanceof LedgerError)) return
  expect(['INVALID_PARAMETER', 'CONFIG_INVALID', 'MESSAGE_ILLEGAL']).toContain(error.code)
  expect(error.message).toContain(name)
  expect(error.hint).not.toBe('')
}

/** Nobody with a compiler could write these. */
function wrong<Value>(value: unknown): Value {
  return value as Value
}

test.each([
  [undefined, 'options'],
  [null, 'options'],
  [{}, 'namesrv'],
  [{ namesrv: undefined }, 'namesrv'],
  [{ namesrv: null }, 'namesrv'],
  [{ namesrv: 5 }, 'namesrv'],
  [{ namesrv: [5] }, 'namesrv'],
  [{ namesrv: 'ns:1', logger: {} }, 'logger'],
  [{ namesrv: 'ns:1', signal: 5 }, 'signal'],
  [{ namesrv: 'ns:1', requestTimeoutMs: Symbol('x') }, 'requestTimeoutMs'],
])('connect(%o) names %s', async (options, name) => {
  expectCoded(await errorOf(() => connect(wrong<ConnectOptions>(options))), name)
})

test.each([
  [null, 'options'],
  [5, 'options'],
  [{ after: null }, 'after'],
  [{ after: 5 }, 'after'],
  [{ after: {} }, 'after'],
  [{ after: [null] }, 'after'],
  [{ after: { queue: { group: 'a' } } }, 'after.index'],
  [{ waitMs: 'long' }, 'waitMs'],
  [{ maxMessages: 0 }, 'maxMessages'],
  [{ signal: {} }, 'signal'],
])('poll(%o) names %s', async (options, name) => {
  const consumer = client.pullConsumer({ group: 'G' })
  expectCoded(await errorOf(() => consumer.poll(wrong(options))), name)
})

const others: readonly (readonly [string, string, (client: Client) => unknown])[] = [
  ['batches', 'waitMs', (mq) => mq.pullConsumer().batches(wrong({ waitMs: 'x' }))],
  ['pullConsumer', 'options', (mq) => mq.pullConsumer(wrong(null))],
  ['pullConsumer group', 'group', (mq) => mq.pullConsumer(wrong({ group: 5 }))],
  ['pullConsumer from', 'from', (mq) => mq.pullConsumer(wrong({ from: {} }))],
  ['pullConsumer readFrom', 'readFrom', (mq) => mq.pullConsumer(wrong({ readFrom: 'nobody' }))],
  ['assign nothing', 'what', (mq) => mq.pullConsumer().assign(wrong(undefined))],
  ['assign null', 'queue', (mq) => mq.pullConsumer().assign(wrong([null]))],
  ['assign from', 'from', (mq) => mq.pullConsumer().assign('T', wrong({ from: null }))],
  ['seek', 'queue', (mq) => mq.pullConsumer().seek(wrong(null), 0)],
  ['position', 'queue', (mq) => mq.pullConsumer().position(wrong(undefined))],
  ['committed', 'queue', (mq) => mq.pullConsumer({ group: 'G' }).committed(wrong(null))],
  ['commit', 'options', (mq) => mq.pullConsumer({ group: 'G' }).commit(wrong(null))],
  ['pushConsumer', 'options', (mq) => mq.pushConsumer(wrong(undefined))],
  ['pushConsumer subscribe', 'subscribe', (mq) => mq.pushConsumer(wrong({ group: 'G' }))],
  ['pushConsumer topic', 'topic', (mq) => mq.pushConsumer(wrong({ group: 'G', subscribe: [null] }))],
  ['run', 'listener', (mq) => mq.pushConsumer({ group: 'G', subscribe: ['T'] }).run(wrong(undefined))],
  ['producer', 'options', (mq) => mq.producer(wrong(null))],
  ['send nothing', 'message', (mq) => mq.producer().send(wrong(undefined))],
  ['send options', 'options', (mq) => mq.producer().send({ topic: 'T', body: 'x' }, wrong(null))],
  ['send timeout', 'timeoutMs', (mq) => mq.producer().send({ topic: 'T', body: 'x' }, wrong({ timeoutMs: 'x' }))],
  ['send selector', 'selector', (mq) => mq.producer().send({ topic: 'T', body: 'x' }, wrong({ selector: 5 }))],
  ['sendAsync', 'callback', (mq) => mq.producer().sendAsync({ topic: 'T', body: 'x' }, wrong(undefined))],
  ['sendOneway', 'message', (mq) => mq.producer().sendOneway(wrong(null))],
  ['sendBatch', 'messages', (mq) => mq.producer().sendBatch(wrong(null))],
  ['sendBatch null', 'message', (mq) => mq.producer().sendBatch(wrong([{ topic: 'T', body: 'x' }, null]))],
  ['createTopic', 'topic', (mq) => mq.admin().createTopic(wrong(undefined))],
  ['createTopic groups', 'groups', (mq) => mq.admin().createTopic(wrong({ topic: 'T', groups: 5 }))],
  ['deleteTopic', 'topic', (mq) => mq.admin().deleteTopic(wrong(undefined))],
  ['describeTopic', 'options', (mq) => mq.admin().describeTopic('T', wrong(null))],
  ['queryOffsets', 'topic', (mq) => mq.admin().queryOffsets(wrong({}))],
  ['replicaStatus', 'address', (mq) => mq.admin().replicaStatus(wrong(undefined))],
  ['watchEvents', 'address', (mq) => mq.admin().watchEvents(wrong({ address: 5 }))],
  ['status', 'options', (mq) => mq.status(wrong(null))],
]

test.each(others)('%s names %s', async (_title, name, act) => {
  expectCoded(await errorOf(() => act(client)), name)
})
