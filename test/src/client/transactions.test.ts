/** Transactions of the SDK on a real broker group: crashes of producers and leaders between half message and end. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Client } from '../../../src/client/client.ts'
import type { ConsumedMessage } from '../../../src/client/consumer/consumed-batch.ts'
import type {
  CheckedMessage,
  TransactionDecision,
  TransactionProducerOptions,
  TransactionResult,
} from '../../../src/client/producer/transaction-types.ts'
import type { ClientStatus } from '../../../src/client/types.ts'
import { eventually } from '../../support/eventually.ts'
import { ClientCluster } from './client-cluster.ts'

/** For what is meant to succeed. */
const patienceMs = 60_000
const message = { topic: 'Orders', body: 'paid', tag: 'a', keys: ['o-1'], properties: { region: 'eu' } }

let cluster: ClientCluster

beforeEach(async () => {
  cluster = new ClientCluster(['n0', 'n1', 'n2'], { transactions: { timeOutMs: 200, checkIntervalMs: 200 } })
  await cluster.start()
})

afterEach(async () => {
  await cluster.end()
})

function never(): TransactionDecision {
  throw new Error('nobody was to be asked')
}

function transactionsOf(client: Client, options: Partial<TransactionProducerOptions> = {}) {
  const patience = { sendTimeoutMs: patienceMs, endTimeoutMs: patienceMs }
  return client.transactionProducer({ group: 'pg', check: never, ...patience, queuesPerTopic: 2, ...options })
}

/** What is visible in the topic up to a message that is sent now. */
async function visible(client: Client): Promise<readonly ConsumedMessage[]> {
  const producer = client.producer({ sendTimeoutMs: patienceMs, queuesPerTopic: 2 })
  const ends = await Promise.all(
    [0, 1].map((queue) =>
      producer.send(
        { topic: 'Orders', body: 'end' },
        { selector: (queues) => queues.find((one) => one.queue === queue) ?? { topic: '', group: '', queue: 0 } },
      ),
    ),
  )
  const consumer = client.pullConsumer()
  await consumer.assign('Orders')
  const messages: ConsumedMessage[] = []
  while (!ends.every((end) => messages.some(({ messageId }) => messageId === end.messageId))) {
    const batch = await consumer.poll({ waitMs: patienceMs })
    messages.push(...(batch?.messages ?? []))
  }
  await consumer.close()
  return messages.filter(({ body }) => body.toString() !== 'end')
}

/** A local transaction that is under way until the test decides. */
function undecided() {
  let decide = (_decision: TransactionDecision): void => {}
  const decision = new Promise<TransactionDecision>((resolve) => {
    decide = resolve
  })
  let started = (): void => {}
  const running = new Promise<void>((resolve) => {
    started = resolve
  })
  const execute = (): Promise<TransactionDecision> => {
    started()
    return decision
  }
  return { execute, running, decide: (made: TransactionDecision) => decide(made) }
}

function follow(client: Client): ClientStatus[] {
  const told: ClientStatus[] = []
  const read = async (): Promise<void> => {
    for await (const status of client.status()) told.push(status)
  }
  void read()
  return told
}

/** A producer that died between half message and end. */
async function diesInBetween(): Promise<string> {
  const client = await cluster.connect()
  const producer = transactionsOf(client, { endTimeoutMs: 1 })
  const transaction = undecided()
  const sent = producer.sendInTransaction(message, transaction.execute)
  await transaction.running
  cluster.brokers.network.kill('client0')
  transaction.decide('unknown')
  return (await sent).transactionId
}

test('a committed message is visible once, as it was sent, and not before', async () => {
  const client = await cluster.connect()
  const producer = transactionsOf(client)
  const transaction = undecided()
  const sending = producer.sendInTransaction(message, transaction.execute)
  await transaction.running
  expect(await visible(client)).toEqual([])
  transaction.decide('commit')
  const sent = await sending
  expect(sent).toMatchObject({ state: 'committed', error: null, queue: { topic: 'Orders', group: 'RaftNode00' } })
  const messages = await visible(client)
  expect(messages).toHaveLength(1)
  expect(messages[0]).toMatchObject({ messageId: sent.messageId, tag: 'a', keys: ['o-1'], queue: sent.queue })
  expect(messages[0]?.properties).toEqual({ region: 'eu' })
  expect(messages[0]?.body.toString()).toBe('paid')
})

test('messages that share a batch are resolved one by one, and what is rolled back is never visible', async () => {
  const client = await cluster.connect()
  const producer = transactionsOf(client)
  const decisions = Array.from({ length: 40 }, (_, number) => (number % 3 === 0 ? 'rollback' : 'commit'))
  const results = await Promise.all(
    decisions.map((decision, number) =>
      producer.sendInTransaction({ topic: 'Orders', body: `${number}` }, () => decision as TransactionDecision),
    ),
  )
  expect(results.map(({ state }) => state)).toEqual(
    decisions.map((decision) => (decision === 'commit' ? 'committed' : 'rolled_back')),
  )
  expect(new Set(results.map(({ transactionId }) => transactionId.slice(2, 16))).size).toBeLessThan(40)
  const bodies = (await visible(client)).map(({ body }) => Number(body.toString()))
  expect(bodies.sort((a, b) => a - b)).toEqual([...decisions.keys()].filter((number) => number % 3 !== 0))
})

test('a local transaction does not run when its message is not stored', async () => {
  const client = await cluster.connect()
  const producer = transactionsOf(client, { autoCreateTopics: false })
  let runs = 0
  const sending = producer.sendInTransaction({ topic: 'Unknown', body: 'x' }, () => {
    runs++
    return 'commit'
  })
  await expect(sending).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  expect(runs).toBe(0)
})

test('what a producer left undecided when it died is decided by another one of its group', async () => {
  const transactionId = await diesInBetween()
  const client = await cluster.connect()
  const asked: CheckedMessage[] = []
  transactionsOf(client, {
    check: (checked) => {
      asked.push(checked)
      return 'commit'
    },
  })
  await eventually('the producer is asked', () => asked.length > 0)
  const [checked] = asked
  expect(checked).toMatchObject({ transactionId, topic: 'Orders', tag: 'a', keys: ['o-1'] })
  expect(checked?.body.toString()).toBe('paid')
  expect(checked?.properties).toEqual({ region: 'eu' })
  await eventually('no transaction is open', async () => {
    const leader = await cluster.brokers.leader()
    return cluster.brokers.replica(leader).machine.halves.pendingCount === 0
  })
  expect((await visible(client)).map(({ messageId }) => messageId)).toEqual([checked?.messageId])
})

test('P3: a leader that dies between half message and commit loses nothing and doubles nothing', async () => {
  const client = await cluster.connect()
  const producer = transactionsOf(client)
  const sent = await producer.sendInTransaction(message, async () => {
    cluster.brokers.kill(await cluster.brokers.leader())
    return 'commit' as const
  })
  expect(sent).toMatchObject({ state: 'committed', error: null })
  expect((await visible(client)).map(({ messageId }) => messageId)).toEqual([sent.messageId])
})

test('P3: every transaction is what its producer was told, over leaders that are killed', async () => {
  const client = await cluster.connect()
  // Some are asked about while the leader is away.
  const producer = transactionsOf(client, { check: () => 'unknown' })
  const expected = new Map<string, TransactionResult>()
  const failures: unknown[] = []
  let running = true
  let count = 0
  const load = Array.from({ length: 8 }, async () => {
    while (running) {
      const number = count++
      const decision = number % 3 === 0 ? 'rollback' : 'commit'
      await producer
        .sendInTransaction({ topic: 'Orders', body: `${number}` }, () => decision)
        .then(
          (result) => {
            expected.set(result.messageId, result)
            if (result.state !== (decision === 'commit' ? 'committed' : 'rolled_back')) failures.push(result)
          },
          (error: unknown) => failures.push(error),
        )
    }
  })
  for (let kill = 0; kill < 3; kill++) {
    const before = expected.size
    await eventually('some transactions are over', () => expected.size > before + 40)
    const leader = await cluster.brokers.leader()
    cluster.brokers.kill(leader)
    await eventually('transactions go on', () => expected.size > before + 80)
    await cluster.brokers.start(leader)
    await cluster.brokers.leader()
  }
  running = false
  await Promise.all(load)
  expect(failures).toEqual([])
  const committed = [...expected.values()].filter(({ state }) => state === 'committed')
  const seen = (await visible(client)).map(({ messageId }) => messageId)
  expect(seen.sort()).toEqual(committed.map(({ messageId }) => messageId).sort())
})

test('P4: the count of checks survives the leader that made them', async () => {
  await diesInBetween()
  const client = await cluster.connect()
  const checks: number[] = []
  transactionsOf(client, {
    check: (checked) => {
      checks.push(checked.checks)
      return 'unknown'
    },
  })
  await eventually('two questions', () => checks.length >= 2)
  const leader = await cluster.brokers.leader()
  cluster.brokers.kill(leader)
  const before = checks.at(-1) ?? 0
  const known = checks.length
  await eventually('a question of the next leader', () => checks.length > known + 1)
  for (const [at, count] of checks.entries()) expect(count).toBeGreaterThan(checks[at - 1] ?? 0)
  expect(checks.at(-1)).toBeGreaterThan(before)
})

test('a producer whose leader is cut off from its group is asked by the next one', async () => {
  await diesInBetween()
  const client = await cluster.connect()
  const checks: number[] = []
  transactionsOf(client, {
    check: (checked) => {
      checks.push(checked.checks)
      return 'unknown'
    },
  })
  await eventually('a question', () => checks.length > 0)
  const old = await cluster.brokers.leader()
  const others = cluster.brokers.nodes.filter((node) => node !== old)
  // The producer still reaches all of them.
  for (const other of others) cluster.brokers.network.cut(old, other)
  await cluster.brokers.leader(others)
  const known = checks.length
  await eventually('a question of the next leader', () => checks.length > known + 1)
})

test('a transaction that nobody can decide is rolled back after the last check, and an event tells', async () => {
  for (const node of cluster.brokers.nodes) {
    cluster.brokers.kill(node)
    await cluster.brokers.startWith(node, { transactions: { timeOutMs: 100, checkIntervalMs: 50, checkMax: 3 } })
  }
  await cluster.brokers.leader()
  const transactionId = await diesInBetween()
  const client = await cluster.connect()
  const checks: number[] = []
  transactionsOf(client, {
    check: (checked) => {
      checks.push(checked.checks)
      return 'unknown'
    },
  })
  const leader = await cluster.brokers.leader()
  const event = await eventually('the transaction is given up', () =>
    cluster.brokers
      .broker(leader)
      .events.since(0)
      .find(({ kind }) => kind === 'transactions_given_up'),
  )
  expect(event.details).toMatchObject({ transactionId, producerGroup: 'pg', topic: 'Orders', checks: '3' })
  expect(Math.max(0, ...checks)).toBeLessThanOrEqual(3)
  expect(await visible(client)).toEqual([])
})

test('of two resolutions the first counts, and who comes second is told', async () => {
  const first = await cluster.connect()
  const producer = transactionsOf(first)
  const second = await cluster.connect()
  let asked = 0
  transactionsOf(second, {
    check: () => {
      asked++
      return 'rollback'
    },
  })
  const transaction = undecided()
  const sending = producer.sendInTransaction(message, transaction.execute)
  await eventually('the other producer rolled it back', async () => {
    const leader = await cluster.brokers.leader()
    return asked > 0 && cluster.brokers.replica(leader).machine.halves.pendingCount === 0
  })
  transaction.decide('commit')
  expect(await sending).toMatchObject({ state: 'rolled_back', error: { code: 'TRANSACTION_RESOLVED' } })
  expect(await visible(first)).toEqual([])
})

test('a producer is not asked about what it is busy with', async () => {
  const client = await cluster.connect()
  const told = follow(client)
  const producer = transactionsOf(client)
  const transaction = undecided()
  const sending = producer.sendInTransaction(message, transaction.execute)
  await eventually('three questions', async () => {
    const [half] = cluster.brokers.replica(await cluster.brokers.leader()).machine.halves.pending()
    return (half?.checks ?? 0) >= 3
  })
  transaction.decide('commit')
  expect(await sending).toMatchObject({ state: 'committed' })
  expect(told.filter(({ kind }) => kind === 'transactionCheckFailed')).toEqual([])
})

test('a check that throws, lies or hangs is told and asked again', async () => {
  await diesInBetween()
  const client = await cluster.connect()
  const told = follow(client)
  const answers: (() => unknown)[] = [
    () => {
      throw new Error('the database is away')
    },
    () => 'perhaps',
    () => new Promise(() => {}),
    () => 'commit',
  ]
  transactionsOf(client, { checkTimeoutMs: 20, check: () => answers.shift()?.() as TransactionDecision })
  await eventually('all answers were given', () => answers.length === 0)
  const messages = await eventually('the message is visible', async () => {
    const seen = await visible(client)
    return seen.length > 0 && seen
  })
  expect(messages).toHaveLength(1)
  const failed = told.filter((status) => status.kind === 'transactionCheckFailed')
  expect(failed.map(({ reason }) => reason.code)).toEqual(['SYSTEM_ERROR', 'INVALID_PARAMETER', 'TIMEOUT'])
  expect(failed[0]).toMatchObject({ messageId: messages[0]?.messageId, queue: messages[0]?.queue })
})

test('a local transaction that throws leaves the decision to a check', async () => {
  const client = await cluster.connect()
  const producer = transactionsOf(client, { check: () => 'rollback' })
  const failure = new Error('the database is away')
  const sent = await producer.sendInTransaction(message, () => {
    throw failure
  })
  expect(sent).toMatchObject({ state: 'unknown', error: failure })
  const leader = await cluster.brokers.leader()
  const { halves } = cluster.brokers.replica(leader).machine
  await eventually('it is rolled back', () => halves.pendingCount === 0)
  expect(await visible(client)).toEqual([])
})

test('closing waits for running transactions, and takes no new ones', async () => {
  const client = await cluster.connect()
  const producer = transactionsOf(client)
  const transaction = undecided()
  const sending = producer.sendInTransaction(message, transaction.execute)
  await transaction.running
  const closing = producer.close()
  await expect(producer.sendInTransaction(message, () => 'commit')).rejects.toMatchObject({ code: 'CLOSED' })
  transaction.decide('commit')
  await closing
  expect(await sending).toMatchObject({ state: 'committed' })
})

test.each([
  [{ group: '' }, 'INVALID_PARAMETER'],
  [{ check: null }, 'CONFIG_INVALID'],
  [{ checkTimeoutMs: 0 }, 'CONFIG_INVALID'],
  [{ topics: 'Orders' }, 'CONFIG_INVALID'],
])('options %j are refused', async (options, code) => {
  const client = await cluster.connect()
  expect(() => transactionsOf(client, options as unknown as Partial<TransactionProducerOptions>)).toThrow(
    expect.objectContaining({ code }),
  )
})
