/** The compiled transport in processes of its own: it finds its protos, leaves nothing behind, notices dead ones. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { afterEach, expect, test } from 'vitest'
import { brokerMethods, raftMethods } from '../../../src/rpc/methods.ts'
import { AwakeTime } from '../../support/awake-time.ts'
import { bench, codeOf, patienceMs, Recorder, until } from './harness.ts'

const root = new URL('../../..', import.meta.url).href
const children: ChildProcess[] = []

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

const prelude = `
  const { createGrpcTransport } = await import('${root}dist/src/rpc/grpc-transport.js')
  const { brokerMethods, raftMethods } = await import('${root}dist/src/rpc/methods.js')
  const { systemClock } = await import('${root}dist/src/common/clock.js')
  const { silentLogger } = await import('${root}dist/src/common/logger.js')
  const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger })
  const serve = () => transport.listen('127.0.0.1:0', (routes) => {
    routes.unary(brokerMethods.probe, async () => ({ group: 'g', node: 'child', leader: true }))
    routes.stream(raftMethods.control, (sink) => ({ onMessage: (m) => sink.write(m), onClosed: () => sink.end() }))
  })
`

function run(script: string): ChildProcess {
  // From another folder: nothing may depend on where a process was started.
  const child = spawn(process.execPath, ['--input-type=module', '-e', prelude + script], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  return child
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) return line
  throw new Error('the child said nothing')
}

test('a process that has closed its channels and servers exits by itself', async () => {
  const child = run(`
    const server = await serve()
    const channel = transport.connect(server.address, 'control')
    const { node } = await channel.call(brokerMethods.probe, {}, { timeoutMs: ${patienceMs} })
    await new Promise((resolve) => {
      const sink = channel.open(raftMethods.control, { onMessage: resolve, onClosed: () => {} })
      sink.write(Buffer.from('x'))
    })
    const dead = transport.connect('127.0.0.1:1', 'client')
    const code = await dead.call(brokerMethods.probe, {}, { timeoutMs: ${patienceMs} }).catch((error) => error.code)
    dead.open(brokerMethods.pull, { onMessage: () => {}, onClosed: () => {} })
    dead.close()
    channel.close()
    await server.close(0)
    console.log(node, code)
  `)
  const exit = once(child, 'exit')
  const line = await firstLine(child)
  const startMs = performance.now()
  const [exitCode] = await exit
  expect([line, exitCode]).toEqual(['child UNAVAILABLE', 0])
  // Not held up by a timer of the transport: those that could are longer.
  expect(performance.now() - startMs).toBeLessThan(9000)
})

test('a process that only has an idle channel open exits as well', async () => {
  const { listen } = bench()
  const server = await listen((routes) => {
    routes.unary(brokerMethods.probe, async () => ({ group: 'g', node: 'parent', leader: true }))
  })
  const child = run(`
    const channel = transport.connect('${server.address}', 'client')
    console.log((await channel.call(brokerMethods.probe, {}, { timeoutMs: ${patienceMs} })).node)
  `)
  const [line, [exitCode]] = await Promise.all([firstLine(child), once(child, 'exit')])
  expect([line, exitCode]).toEqual(['parent', 0])
})

test('a port of another process is PORT_IN_USE, a killed process closes its streams at once', async () => {
  const { connect, listen } = bench()
  const child = run('console.log((await serve()).address)')
  const address = await firstLine(child)
  expect(await codeOf(listen(() => {}, address))).toBe('PORT_IN_USE')
  const down = new Recorder<Buffer>()
  const channel = connect(address, 'control')
  channel.open(raftMethods.control, down).write(Buffer.from('x'))
  await until(() => down.messages.length === 1)
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
  using awake = new AwakeTime()
  await until(() => down.closed.length === 1)
  expect(awake.ms).toBeLessThan(500)
  expect(down.closed[0]?.code).toBe('UNAVAILABLE')
  expect(await codeOf(channel.call(brokerMethods.probe, {}, { timeoutMs: patienceMs }))).toBe('UNAVAILABLE')
})

test('a hung process closes the streams of a control channel within two seconds and a half', async () => {
  const { connect } = bench()
  const child = run('console.log((await serve()).address)')
  const address = await firstLine(child)
  const down = new Recorder<Buffer>()
  connect(address, 'control').open(raftMethods.control, down).write(Buffer.from('x'))
  await until(() => down.messages.length === 1)
  child.kill('SIGSTOP')
  using awake = new AwakeTime()
  await until(() => down.closed.length === 1)
  expect(awake.ms).toBeLessThan(2500)
  expect(down.closed[0]?.code).toBe('UNAVAILABLE')
  const late = new Recorder<Buffer>()
  bench({ limits: { openTimeoutMs: 300 } })
    .connect(address, 'control')
    .open(raftMethods.control, late)
  await until(() => late.closed.length === 1)
  expect(late.closed[0]?.code, 'a new stream to it is not left hanging either').toBe('UNAVAILABLE')
})

test('a hung client is noticed by the server', async () => {
  const { listen } = bench({ limits: { serverKeepaliveMs: 300, serverKeepaliveTimeoutMs: 700 } })
  const up = new Recorder<Buffer>()
  const server = await listen((routes) => routes.stream(raftMethods.control, () => up))
  const child = run(`
    const channel = transport.connect('${server.address}', 'control')
    const sink = channel.open(raftMethods.control, { onMessage: () => {}, onClosed: () => {} })
    sink.write(Buffer.from('x'))
  `)
  await until(() => up.messages.length === 1)
  child.kill('SIGSTOP')
  await until(() => up.closed.length === 1)
  expect(up.closed[0]?.code).toBe('UNAVAILABLE')
})
