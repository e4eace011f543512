/** What a channel leaves behind at the other side when it gives a connection up: nothing, and no call that is answered. */
import { connect as connectTcp, createServer, type Server as NetServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import { brokerMethods } from '../../../src/rpc/methods.ts'
import { settle } from '../../support/manual-clock.ts'
import { bench, patienceMs, until } from './harness.ts'

const probe = { group: 'a', node: 'n0', leader: true }
const limits = { connectTimeoutMs: 100 }
let net: NetServer | null = null
let accepted = 0
let ended = 0

afterEach(() => {
  net?.close()
  net = null
})

/** Takes connections and says nothing, as the kernel does for a process that stands still. */
async function listenMute(port: number): Promise<number> {
  accepted = 0
  ended = 0
  const listener = createServer((socket) => {
    accepted++
    socket.on('close', () => ended++)
    socket.on('error', () => {})
    socket.resume()
  })
  net = listener
  await new Promise<void>((resolve) => listener.listen(port, '127.0.0.1', resolve))
  const address = listener.address()
  return typeof address === 'object' && address ? address.port : 0
}

test('connections to a process that stands still do not add up', async () => {
  const port = await listenMute(0)
  const channel = bench({ limits }).connect(`127.0.0.1:${port}`)
  while (accepted < 4)
    await expect(channel.call(brokerMethods.probe, {}, { timeoutMs: 1_000 })).rejects.toThrow(LedgerError)
  await until(() => accepted - ended <= 1)
  channel.close()
  await until(() => accepted === ended)
})

/** Whatever was begun before is taken by the listener when this returns; nothing of it may be left. */
async function expectNoConnection(port: number): Promise<void> {
  await settle()
  const before = accepted
  const marker = connectTcp(port, '127.0.0.1')
  await until(() => accepted > before && marker.readyState === 'open')
  await until(() => accepted - ended === 1)
  marker.destroy()
  await until(() => accepted === ended)
}

test('a channel that is closed in the turn of its first call leaves no connection', async () => {
  const port = await listenMute(0)
  const channel = bench().connect(`127.0.0.1:${port}`)
  const call = channel.call(brokerMethods.probe, {}, { timeoutMs: patienceMs })
  channel.close()
  await expect(call).rejects.toMatchObject({ code: 'CLOSED' })
  await expectNoConnection(port)
})

test('a connection that is given up before it began, as this process stood still, leaves none either', async () => {
  const port = await listenMute(0)
  const timers: (() => void)[] = []
  const after: Clock['after'] = (_ms, callback) => {
    timers.push(callback)
    return () => {}
  }
  const channel = bench({ limits, clock: { ...systemClock, after } }).connect(`127.0.0.1:${port}`)
  const call = channel.call(brokerMethods.probe, {}, { timeoutMs: patienceMs })
  // Timers come before what is left for the next turn.
  for (const fire of timers) fire()
  await expect(call).rejects.toThrow('no connection in time')
  channel.close()
  await expectNoConnection(port)
})

test('a channel that was closed while its server was down does not connect to it later', async () => {
  const { connect } = bench({ limits })
  const port = await listenMute(0)
  await new Promise((resolve) => net?.close(resolve))
  const channel = connect(`127.0.0.1:${port}`)
  const call = (): Promise<unknown> => channel.call(brokerMethods.probe, {}, { timeoutMs: patienceMs })
  // A busy machine may need longer for the refusal than the limit for a connection.
  await expect.poll(() => call().catch(String), { timeout: patienceMs }).toContain('ECONNREFUSED')
  channel.close()
  await listenMute(port)
  await new Promise((resolve) => setTimeout(resolve, 700))
  expect(accepted - ended).toBe(0)
})

test('a call that was sent is answered although its server closes and its connection is given up', async () => {
  const { listen, connect } = bench({ limits })
  let answer: (() => void) | null = null
  const server = await listen((routes) =>
    routes.unary(brokerMethods.probe, async () => {
      await new Promise<void>((resolve) => {
        answer = resolve
      })
      return probe
    }),
  )
  const channel = connect(server.address)
  const sent = channel.call(brokerMethods.probe, {}, { timeoutMs: patienceMs })
  await until(() => answer !== null)
  const closed = server.close(patienceMs)
  await new Promise((resolve) => setTimeout(resolve, 50))
  // The port is closed: this begins another connection, in vain, and has the client given up.
  await expect(channel.call(brokerMethods.probe, {}, { timeoutMs: 1_000 })).rejects.toThrow(LedgerError)
  await new Promise((resolve) => setTimeout(resolve, 300))
  ;(answer as (() => void) | null)?.()
  expect(await sent).toEqual(probe)
  await closed
})
