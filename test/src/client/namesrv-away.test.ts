/** What a client does while namesrvs are away: how often it asks, and that a late failure of one costs no other. */
import { beforeEach, expect, test } from 'vitest'
import { openClient } from '../../../src/client/client.ts'
import { RouteCache } from '../../../src/client/route-cache.ts'
import { StatusHub } from '../../../src/client/status-hub.ts'
import type { ClientStatus } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { checkRouteTopics } from '../../../src/namesrv/registration-check.ts'
import type { Transport } from '../../../src/rpc/transport.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { routeOf, ScriptedTransport } from './scripted-transport.ts'

let clock: ManualClock
let transport: ScriptedTransport

beforeEach(() => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
  transport.route = routeOf({})
})

test('a namesrv that refuses is tried again at least once a second, and not in a hot loop', async () => {
  const triesMs: number[] = []
  const watching: Transport = {
    listen: transport.listen,
    connect: (address) => {
      const channel = transport.connect(address)
      const open: typeof channel.open = (method, handlers) => {
        triesMs.push(clock.monotonicMs())
        return channel.open(method, handlers)
      }
      const call: typeof channel.call = (method, request, options) => {
        triesMs.push(clock.monotonicMs())
        return channel.call(method, request, options)
      }
      return { ...channel, open, call }
    },
  }
  const client = await openClient({ transport: watching, clock, random: systemRandom }, { namesrv: 'ns:1' })
  transport.namesrvUp = false
  transport.breakWatches()
  triesMs.splice(0)
  await clock.advance(60_000)
  const pausesMs = triesMs.slice(1).map((tryMs, index) => tryMs - (triesMs[index] ?? 0))
  expect(Math.max(...pausesMs)).toBeLessThanOrEqual(1_000)
  expect(triesMs.length).toBeLessThan(130)
  expect(new Set(pausesMs.slice(-10)).size).toBeGreaterThan(1)
  await client.close()
})

test('a namesrv that fails late does not end the stream to the one that took its place', async () => {
  // Whichever is dialled first hangs from its first poll on; what it fails with comes when the other serves already.
  const failures: (() => void)[] = []
  let hanging: string | null = null
  const half: Transport = {
    listen: transport.listen,
    connect: (address) => {
      const channel = transport.connect(address)
      const call: typeof channel.call = (method, request, options) => {
        if (address !== hanging) return channel.call(method, request, options)
        return new Promise((_resolve, reject) =>
          failures.push(() => reject(new LedgerError('DEADLINE_EXCEEDED', 'no answer'))),
        )
      }
      return { ...channel, call }
    },
  }
  const client = await openClient({ transport: half, clock, random: systemRandom }, { namesrv: ['ns1:1', 'ns2:1'] })
  const seen: ClientStatus[] = []
  void (async () => {
    for await (const status of client.status()) seen.push(status)
  })()
  await settle()
  const [first] = seen
  hanging = first && 'address' in first ? first.address : ''
  client
    .producer()
    .send({ topic: 'T', body: 'x' })
    .catch(() => {})
  await settle()
  transport.breakWatches()
  await clock.advance(200)
  expect(failures.length).toBeGreaterThan(0)
  expect(seen.at(-1)).toMatchObject({ kind: 'connected', address: hanging === 'ns1:1' ? 'ns2:1' : 'ns1:1' })
  seen.splice(0)
  for (const fail of failures) fail()
  await clock.advance(200)
  expect(seen).toEqual([])
  const closing = client.close()
  await clock.advance(20_000)
  await closing
})

test('a client of more topics than a request may name still learns of routes', async () => {
  const asked = new Set<string>()
  const strict: Transport = {
    listen: transport.listen,
    connect: (address) => {
      const channel = transport.connect(address)
      const call: typeof channel.call = async (method, request, options) => {
        const { topics } = request as { readonly topics: readonly string[] }
        checkRouteTopics(topics)
        for (const topic of topics) asked.add(topic)
        return channel.call(method, request, options)
      }
      const open: typeof channel.open = (method, handlers) => {
        const sink = channel.open(method, handlers)
        return {
          ...sink,
          write: (message) => {
            checkRouteTopics((message as { readonly topics: readonly string[] }).topics)
            return sink.write(message)
          },
        }
      }
      return { ...channel, call, open }
    },
  }
  const options = { namesrv: ['ns:1'], requestTimeoutMs: 1_000, status: new StatusHub(), logger: silentLogger }
  const routes = new RouteCache({ transport: strict, clock, random: systemRandom, ...options })
  await routes.start()
  for (let topic = 0; topic < 2_500; topic++) routes.want(`T${topic}`)
  transport.route = routeOf({ a: {} }, { T0: { a: 1 } })
  await clock.advance(31_000)
  expect(asked.size).toBe(2_500)
  expect(routes.table.topic('T0')).toBeDefined()
  routes.close()
})

test('a namesrv that just began and knows no broker is no authority on topics: who asks waits for what it learns', async () => {
  const options = { namesrv: ['ns:1'], requestTimeoutMs: 1_000, status: new StatusHub(), logger: silentLogger }
  const routes = new RouteCache({ transport, clock, random: systemRandom, ...options })
  await routes.start()
  const answers: string[] = []
  for (const topic of ['T', 'Unknown'])
    void routes
      .topic(topic, { timeoutMs: 5_000 })
      .then((state) => answers.push(`${topic}: ${state ? 'known' : 'unknown'}`))
  await clock.advance(2_000)
  expect(answers).toEqual([])
  transport.route = routeOf({ a: {} }, { T: { a: 1 } })
  await clock.advance(500)
  expect(answers.sort()).toEqual(['T: known', 'Unknown: unknown'])
  routes.close()
})

test('when no broker comes, the error says that the namesrv knows none', async () => {
  const client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
  const sent = client
    .producer({ sendTimeoutMs: 3_000 })
    .send({ topic: 'T', body: 'x' })
    .catch((error: unknown) => error)
  await clock.advance(4_000)
  expect(await sent).toMatchObject({ stored: 'no', message: expect.stringContaining('ns:1 knows no broker') })
  const closing = client.close()
  await clock.advance(20_000)
  await closing
})
