/** A server on hostile and broken connections, at its limits, and at its end. */
import { once } from 'node:events'
import { type ClientHttp2Session, constants, connect as http2Connect } from 'node:http2'
import { createConnection, createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import type { LedgerError } from '../../../src/common/errors.ts'
import { brokerMethods, raftMethods } from '../../../src/rpc/methods.ts'
import type { Server, ServerRoutes, StreamSink } from '../../../src/rpc/transport.ts'
import { AwakeTime } from '../../support/awake-time.ts'
import { bench, codeOf, patienceMs, Recorder, until } from './harness.ts'

const soon = { timeoutMs: patienceMs }
const reply = { group: 'g', node: 'n0', leader: true }
const probe = (routes: ServerRoutes): void => routes.unary(brokerMethods.probe, async () => reply)
const portOf = (server: Server): number => Number(server.address.split(':').at(-1))

function rawCall(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: Buffer,
): Promise<{ status: number; grpc: string | undefined; code: string | undefined }> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/ledgermq.v1.Broker/Probe',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    })
    const result = { status: 0, grpc: undefined as string | undefined, code: undefined as string | undefined }
    const note = (received: Record<string, unknown>): void => {
      result.status ||= Number(received[':status'] ?? 0)
      result.grpc ??= received['grpc-status'] as string | undefined
      result.code ??= received['ledgermq-code'] as string | undefined
    }
    stream.on('response', note)
    stream.on('trailers', note)
    stream.on('error', reject)
    stream.on('close', () => resolve(result))
    stream.resume()
    stream.end(body ?? Buffer.alloc(5))
  })
}

describe('listening', () => {
  test('port 0 finds a free port, and a taken one is PORT_IN_USE naming the address', async () => {
    const { listen, connect } = bench()
    const server = await listen(probe)
    expect(portOf(server)).toBeGreaterThan(0)
    await expect(listen(probe, server.address)).rejects.toMatchObject({ code: 'PORT_IN_USE' })
    await expect(listen(probe, server.address)).rejects.toThrow(server.address)
    await expect(listen(probe, `0.0.0.0:${portOf(server)}`)).rejects.toMatchObject({ code: 'PORT_IN_USE' })
    expect(await connect(server.address).call(brokerMethods.probe, {}, soon)).toEqual(reply)
  })

  test('a port that a plain socket of another kind holds is PORT_IN_USE too', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    await expect(bench().listen(probe, `127.0.0.1:${port}`)).rejects.toMatchObject({ code: 'PORT_IN_USE' })
    other.close()
  })

  test('what is no address is CONFIG_INVALID', async () => {
    for (const address of ['', 'localhost', ':1', 'a:b', '127.0.0.1:65536', '::1:80', 'no.such.host.invalid:0']) {
      await expect(bench().listen(probe, address), address).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    }
  })

  test('a method without a permission, an unknown one and a double one stop the start', async () => {
    const broken = [
      { ...brokerMethods.probe, permission: undefined as unknown as 'open' },
      { ...brokerMethods.probe, name: 'Nothing' },
    ]
    for (const method of broken) {
      await expect(bench().listen((routes) => routes.unary(method, async () => reply))).rejects.toThrow()
    }
    await expect(
      bench().listen((routes) => {
        probe(routes)
        probe(routes)
      }),
    ).rejects.toThrow(/twice/)
  })
})

describe('hostile connections', () => {
  test('garbage on the port ends that connection and nothing else', async () => {
    const { listen, connect } = bench({ limits: { handshakeMs: 200 } })
    const server = await listen(probe)
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
    const inputs = [
      'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
      Buffer.from(Array.from({ length: 4096 }, (_, at) => (at * 7919) & 0xff)),
      preface + 'x'.repeat(1000),
      `${preface}\xff\xff\xff\xff\xff\xff\xff\xff\xff`,
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      preface.slice(0, 10),
      '',
    ]
    using awake = new AwakeTime()
    for (const input of inputs) {
      const socket = createConnection(portOf(server), '127.0.0.1')
      socket.on('error', () => {})
      socket.resume()
      await once(socket, 'connect')
      const startMs = awake.ms
      socket.write(input)
      await once(socket, 'close')
      expect(awake.ms - startMs, 'the handshake has a time limit').toBeLessThan(1500)
    }
    expect(await connect(server.address).call(brokerMethods.probe, {}, soon)).toEqual(reply)
  })

  test('a wrong content type is HTTP 415, odd paths are UNIMPLEMENTED, odd timeouts are ignored', async () => {
    const server = await bench().listen(probe)
    const session = http2Connect(`http://${server.address}`)
    expect(await rawCall(session, { 'content-type': 'text/html' })).toMatchObject({ status: 415 })
    for (const path of ['/', '/%00', '/ü', '/__proto__', `/${'x'.repeat(5000)}`]) {
      expect(await rawCall(session, { ':path': path }), path).toMatchObject({ grpc: '12', code: '604' })
    }
    for (const timeout of ['99999999H', '99999999M', 'abc', '-5S', '1', '999999999999S']) {
      expect(await rawCall(session, { 'grpc-timeout': timeout }), timeout).toMatchObject({ grpc: '0' })
    }
    session.destroy()
  })

  test('metadata over 16 KiB or 64 entries is OVERLOADED', async () => {
    const { listen, connect } = bench()
    const server = await listen(probe)
    const session = http2Connect(`http://${server.address}`)
    expect(await rawCall(session, { large: 'x'.repeat(17 * 1024) })).toMatchObject({ grpc: '8', code: '605' })
    const many = Object.fromEntries(Array.from({ length: 61 }, (_, at) => [`key-${at}`, 'x']))
    expect(await rawCall(session, many)).toMatchObject({ grpc: '8', code: '605' })
    expect(await rawCall(session, { fine: 'x'.repeat(15 * 1024) })).toMatchObject({ grpc: '0' })
    session.destroy()
    expect(await connect(server.address).call(brokerMethods.probe, {}, soon)).toEqual(reply)
  })

  test('a length of 4 GiB, a gzip bomb, broken gzip and two messages in one call are refused', async () => {
    const { listen, connect } = bench()
    const server = await listen(probe)
    const session = http2Connect(`http://${server.address}`)
    expect(await rawCall(session, {}, Buffer.from('00ffffffff41', 'hex'))).toMatchObject({ grpc: '8' })
    const { gzipSync } = await import('node:zlib')
    const frame = (body: Buffer): Buffer => {
      const head = Buffer.alloc(5)
      head[0] = 1
      head.writeUInt32BE(body.length, 1)
      return Buffer.concat([head, body])
    }
    const bomb = frame(gzipSync(Buffer.alloc(8 * 1024 * 1024)))
    expect(await rawCall(session, { 'grpc-encoding': 'gzip' }, bomb)).toMatchObject({ grpc: '8' })
    const broken = frame(Buffer.from('not gzip'))
    expect((await rawCall(session, { 'grpc-encoding': 'gzip' }, broken)).grpc).toMatch(/^(13|8|2)$/)
    expect((await rawCall(session, {}, Buffer.alloc(10))).grpc).toBe('12')
    session.destroy()
    expect(await connect(server.address).call(brokerMethods.probe, {}, soon)).toEqual(reply)
  })

  test('frequent pings are no offence', async () => {
    const { listen } = bench()
    const server = await listen(probe)
    const session = http2Connect(`http://${server.address}`)
    let goaway = false
    session.on('goaway', () => {
      goaway = true
    })
    await once(session, 'connect')
    for (let count = 0; count < 200; count += 1) {
      await new Promise((resolve) => session.ping(resolve))
    }
    expect(goaway).toBe(false)
    session.destroy()
  })

  test('a connection takes no more than its number of streams', async () => {
    const { listen } = bench({ limits: { streamsPerConnectionMax: 8 } })
    const server = await listen((routes) => routes.unary(brokerMethods.probe, () => new Promise(() => {})))
    const session = http2Connect(`http://${server.address}`)
    await once(session, 'remoteSettings')
    expect(session.remoteSettings.maxConcurrentStreams).toBe(8)
    session.destroy()
  })
})

describe('a slow reader', () => {
  function flood(sink: StreamSink<Buffer>, bytes: number): void {
    const chunk = Buffer.alloc(256 * 1024, 1)
    for (let sent = 0; sent < bytes; sent += chunk.length) sink.write(chunk)
  }

  /** A client that opens Pull and never reads a byte of it; the code that its stream is reset with. */
  function openUnread(server: Server): { session: ClientHttp2Session; resetCode: Promise<number> } {
    const session = http2Connect(`http://${server.address}`)
    const headers = { ':method': 'POST', ':path': '/ledgermq.v1.Broker/Pull', 'content-type': 'application/grpc' }
    const stream = session.request(headers, { endStream: false })
    const resetCode = new Promise<number>((resolve) => stream.once('close', () => resolve(stream.rstCode)))
    // A paused stream closes only once it was read: let go when the reset is there.
    stream.once('aborted', () => stream.resume())
    stream.on('error', () => {})
    stream.pause()
    stream.write(Buffer.alloc(5))
    return { session, resetCode }
  }

  test('is cut off with OVERLOADED at the hard limit of what waits for it', async () => {
    const up = new Recorder<Buffer>()
    const server = await bench({ limits: { streamBufferBytesMax: 8 * 1024 * 1024 } }).listen((routes) => {
      routes.stream(brokerMethods.pull, (sink) => {
        flood(sink, 32 * 1024 * 1024)
        return up
      })
    })
    const { session, resetCode } = openUnread(server)
    await until(() => up.closed.length === 1)
    expect(up.closed[0]?.code).toBe('OVERLOADED')
    expect(await resetCode).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM)
    session.destroy()
  })

  test('is cut off with OVERLOADED when its buffer has not drained for too long', async () => {
    const up = new Recorder<Buffer>()
    const server = await bench({ limits: { streamStalledMs: 150 } }).listen((routes) => {
      routes.stream(brokerMethods.pull, (sink) => {
        flood(sink, 8 * 1024 * 1024)
        return up
      })
    })
    const { session, resetCode } = openUnread(server)
    await until(() => up.closed.length === 1)
    expect(up.closed[0]?.code).toBe('OVERLOADED')
    expect(await resetCode).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM)
    session.destroy()
  })

  test('that is cancelled with an error is reset when it does not even read that', async () => {
    const up = new Recorder<Buffer>()
    const server = await bench({ limits: { flushMs: 100 } }).listen((routes) => {
      routes.stream(brokerMethods.pull, (sink) => {
        flood(sink, 8 * 1024 * 1024)
        sink.cancel()
        return up
      })
    })
    const { session, resetCode } = openUnread(server)
    await until(() => up.closed.length === 1)
    expect(await resetCode).toBe(constants.NGHTTP2_CANCEL)
    session.destroy()
  })
})

describe('closing', () => {
  test('lets running calls finish within the grace, refuses new ones, and frees the port', async () => {
    const { listen, connect } = bench()
    let finish: (() => void) | undefined
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, () => new Promise((resolve) => (finish = () => resolve(reply))))
    })
    const call = connect(server.address).call(brokerMethods.probe, {}, soon)
    await until(() => finish !== undefined)
    const closed = server.close(patienceMs)
    expect(await codeOf(connect(server.address).call(brokerMethods.probe, {}, soon))).toBe('UNAVAILABLE')
    finish?.()
    expect(await call).toEqual(reply)
    await closed
    await listen(probe, server.address)
  })

  test('breaks open streams and stuck calls after the grace and never hangs', async () => {
    const { listen, connect } = bench()
    const up = new Recorder<Buffer>()
    const server = await listen((routes) => {
      routes.stream(raftMethods.bulk, () => up)
      routes.unary(brokerMethods.probe, () => new Promise(() => {}))
    })
    const channel = connect(server.address, 'bulk')
    const down = new Recorder<Buffer>()
    channel.open(raftMethods.bulk, down).write(Buffer.from('x'))
    const call = codeOf(channel.call(brokerMethods.probe, {}, soon))
    await until(() => up.messages.length === 1)
    const idle = createConnection(portOf(server), '127.0.0.1')
    idle.on('error', () => {})
    await once(idle, 'connect')
    using awake = new AwakeTime()
    await server.close(100)
    await server.close(100)
    expect(awake.ms).toBeLessThan(1000)
    expect(await call).toBe('UNAVAILABLE')
    await until(() => down.closed.length === 1 && up.closed.length === 1)
    expect((down.closed[0] as LedgerError).message).toContain('closing')
  })

  test('with nothing running returns at once', async () => {
    const { listen, connect } = bench()
    const server = await listen(probe)
    await connect(server.address).call(brokerMethods.probe, {}, soon)
    using awake = new AwakeTime()
    await server.close(10_000)
    expect(awake.ms).toBeLessThan(500)
  })
})
