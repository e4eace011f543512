/** What a channel leaves behind at the other side when it gives a connection up: nothing, and no call that is answered. */
import { createServer, type Server as NetServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { LedgerError } from '../../../src/common/errors.ts'
import { brokerMethods } from '../../../src/rpc/methods.ts'
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
