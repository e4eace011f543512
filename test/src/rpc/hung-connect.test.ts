/** A machine that is down answers no connection attempt; the kernel asks again later and later. */
import { type ChildProcess, spawn } from 'node:child_process'
import { connect, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { createGrpcTransport } from '../../../src/rpc/grpc-transport.ts'
import { brokerMethods } from '../../../src/rpc/methods.ts'
import type { Channel, Server } from '../../../src/rpc/transport.ts'
import { eventually } from '../../support/eventually.ts'

const shared = { clock: systemClock, logger: silentLogger }
const limits = { connectTimeoutMs: 500, connectByNameTimeoutMs: 500 }
const probe = { group: 'a', node: 'n0', leader: true }
let child: ChildProcess | null = null
let channel: Channel | null = null
let server: Server | null = null
const fillers: Socket[] = []

afterEach(async () => {
  for (const filler of fillers.splice(0)) filler.destroy()
  child?.kill('SIGKILL')
  channel?.close()
  await server?.close(0)
})

/** A port that takes no connection: its queue is full, and Linux drops what else comes, as a dead machine would. */
async function hungPort(): Promise<number> {
  const script = `const server = require('node:net').createServer()
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      require('node:fs').writeSync(1, String(server.address().port))
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    })`
  const started = spawn(process.execPath, ['-e', script])
  child = started
  const port = await new Promise<number>((resolve) => started.stdout.once('data', (text) => resolve(Number(text))))
  let connected = 0
  for (let count = 0; count < 4; count++) {
    const filler = connect(port, '127.0.0.1', () => connected++)
    filler.on('error', () => {})
    fillers.push(filler)
  }
  await eventually('its queue is full', () => connected >= 2)
  return port
}

test.runIf(process.platform === 'linux').each(['127.0.0.1', 'localhost'])(
  'a connection attempt to %s that hangs does not keep later ones from reaching a machine that is back',
  async (host) => {
    const port = await hungPort()
    channel = createGrpcTransport({ ...shared, limits }).connect(`${host}:${port}`, 'client')
    const hung = channel.call(brokerMethods.probe, {}, { timeoutMs: 60_000 })
    await expect(hung).rejects.toMatchObject({ code: 'UNAVAILABLE', message: `${host}:${port}: no connection in time` })
    const exited = new Promise((resolve) => child?.once('exit', resolve))
    child?.kill('SIGKILL')
    await exited
    server = await createGrpcTransport(shared).listen(`127.0.0.1:${port}`, (routes) =>
      routes.unary(brokerMethods.probe, async () => probe),
    )
    // What was dialled first is given up, so this is not its answer.
    expect(await channel.call(brokerMethods.probe, {}, { timeoutMs: 60_000 })).toEqual(probe)
  },
)
