/** The gRPC transport over real sockets: calls, streams, errors, connections that break and come back. */
import { createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { invariant } from '../../../src/common/assert.ts'
import { type ErrorCode, errorTable, LedgerError } from '../../../src/common/errors.ts'
import { adminMethods, brokerMethods, namesrvMethods, raftMethods } from '../../../src/rpc/methods.ts'
import type { CallContext, StreamSink } from '../../../src/rpc/transport.ts'
import { AwakeTime } from '../../support/awake-time.ts'
import { bench, codeOf, type LoggedLine, patienceMs, Recorder, recordingLogger, until } from './harness.ts'

const soon = { timeoutMs: patienceMs }
const probeReply = { group: 'g', node: 'n0', leader: true }

describe('unary calls', () => {
  test('a call gets the answer as the plain object that the handler returned', async () => {
    const { listen, connect } = bench()
    const route = { version: 3, groups: [], topics: [{ topic: 'orders', queues: [] }] }
    const seen: unknown[] = []
    const server = await listen((routes) => {
      routes.unary(namesrvMethods.getRoute, async (request, context) => {
        seen.push(request, context.remainingMs > 4000, context.peer.startsWith('127.0.0.1:'), context.signal.aborted)
        return route
      })
    })
    expect(await connect(server.address).call(namesrvMethods.getRoute, { topics: ['orders'] }, soon)).toStrictEqual(
      route,
    )
    expect(seen).toEqual([{ topics: ['orders'] }, true, true, false])
  })

  test('every code of the table reaches the caller exactly, with message and facts', async () => {
    const { listen, connect } = bench()
    const facts = { leader: { node: 'n1', address: 'a:1' }, term: 3, retryAfterMs: 4, minOffset: 5, maxOffset: 6 }
    const server = await listen((routes) => {
      routes.unary(adminMethods.deleteTopic, async ({ topic }) => {
        throw new LedgerError(topic as ErrorCode, `grüße, ${topic}\n\ud800`, facts)
      })
    })
    const channel = connect(server.address)
    for (const code of Object.keys(errorTable) as ErrorCode[]) {
      const error = await channel
        .call(adminMethods.deleteTopic, { topic: code }, soon)
        .catch((thrown: unknown) => thrown)
      expect(error, code).toBeInstanceOf(LedgerError)
      expect(error, code).toMatchObject({ code, facts })
      expect((error as LedgerError).message, code).toBe(`grüße, ${code}\n\ufffd`)
    }
  })

  test('any other thrown value is a SYSTEM_ERROR, logged, and the server lives', async () => {
    const lines: LoggedLine[] = []
    const { listen, connect } = bench({ logger: recordingLogger(lines) })
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, async () => {
        throw new TypeError('oops')
      })
      routes.unary(adminMethods.listTopics, async () => ({ topics: [] }))
    })
    const channel = connect(server.address)
    await expect(channel.call(brokerMethods.probe, {}, soon)).rejects.toMatchObject({
      code: 'SYSTEM_ERROR',
      message: 'oops',
    })
    expect(lines.filter((line) => line.level === 'error')).toHaveLength(1)
    expect(await channel.call(adminMethods.listTopics, {}, soon)).toEqual({ topics: [] })
  })

  test('a broken invariant is handed to the owner, not just answered', async () => {
    const bugs: Error[] = []
    const { listen, connect } = bench({ onBug: (error) => bugs.push(error) })
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, async () => {
        invariant(false, 'R1: two leaders')
      })
    })
    expect(await codeOf(connect(server.address).call(brokerMethods.probe, {}, soon))).toBe('SYSTEM_ERROR')
    expect(bugs.map((bug) => bug.message)).toEqual(['R1: two leaders'])
  })

  test('an answer that does not come in time is DEADLINE_EXCEEDED, and the handler is told', async () => {
    const { listen, connect } = bench()
    let context: CallContext | undefined
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, (_request, given) => {
        context = given
        return new Promise(() => {})
      })
    })
    const channel = connect(server.address)
    // As long as a slow machine needs to bring the call there.
    for (let timeoutMs = 60; context === undefined; timeoutMs *= 2)
      expect(await codeOf(channel.call(brokerMethods.probe, {}, { timeoutMs }))).toBe('DEADLINE_EXCEEDED')
    await until(() => context?.signal.aborted === true)
    expect(context?.remainingMs).toBeLessThan(30)
  })

  test('a signal aborts the call on both sides', async () => {
    const { listen, connect } = bench()
    let context: CallContext | undefined
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, (_request, given) => {
        context = given
        return new Promise(() => {})
      })
    })
    const channel = connect(server.address)
    const abort = new AbortController()
    const call = codeOf(channel.call(brokerMethods.probe, {}, { ...soon, signal: abort.signal }))
    await until(() => context !== undefined)
    abort.abort()
    expect(await call).toBe('ABORTED')
    await until(() => context?.signal.aborted === true)
    expect(await codeOf(channel.call(brokerMethods.probe, {}, { ...soon, signal: abort.signal }))).toBe('ABORTED')
  })

  test('a timeout of months neither fails at once nor overflows on the server', async () => {
    const { listen, connect } = bench()
    const remaining: number[] = []
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, async (_request, context) => {
        remaining.push(context.remainingMs)
        return probeReply
      })
    })
    for (const timeoutMs of [2 ** 31, Number.POSITIVE_INFINITY, 2 ** 31 - 10_000]) {
      expect(await connect(server.address).call(brokerMethods.probe, {}, { timeoutMs })).toEqual(probeReply)
    }
    expect(remaining.slice(0, 2)).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY])
    expect(remaining[2]).toBeGreaterThan(2 ** 30)
  })

  test('an unknown method and one of another kind are UNIMPLEMENTED, an illegal request INVALID_REQUEST', async () => {
    const { listen, connect } = bench()
    const server = await listen((routes) => routes.unary(brokerMethods.probe, async () => probeReply))
    const channel = connect(server.address)
    expect(await codeOf(channel.call(adminMethods.listTopics, {}, soon))).toBe('UNIMPLEMENTED')
    const recorder = new Recorder<Buffer>()
    channel.open(brokerMethods.produce, recorder)
    await until(() => recorder.closed.length === 1)
    expect(recorder.closed[0]?.code).toBe('UNIMPLEMENTED')
    const request = { topic: 't', queue: -1 }
    expect(await codeOf(channel.call(brokerMethods.queryOffsets, request, soon))).toBe('INVALID_REQUEST')
  })

  test('a request over 4 MiB and 64 KiB is OVERLOADED, a reply may be larger', async () => {
    const { listen, connect } = bench()
    const server = await listen((routes) => {
      routes.unary(namesrvMethods.getRoute, async ({ topics }) => ({
        version: topics.length,
        groups: [],
        topics: [{ topic: 'x'.repeat(10 * 1024 * 1024), queues: [] }],
      }))
    })
    const channel = connect(server.address)
    const fits = await channel.call(namesrvMethods.getRoute, { topics: ['x'.repeat(4 * 1024 * 1024)] }, soon)
    expect(fits.topics[0]?.topic).toHaveLength(10 * 1024 * 1024)
    const tooLarge = { topics: ['x'.repeat(4 * 1024 * 1024 + 64 * 1024)] }
    expect(await codeOf(channel.call(namesrvMethods.getRoute, tooLarge, soon))).toBe('OVERLOADED')
  })
})

describe('streams', () => {
  test('messages pass both ways in order, and a clean end closes both sides without an error', async () => {
    const { listen, connect } = bench()
    const up = new Recorder<Buffer>()
    const server = await listen((routes) => {
      routes.stream(brokerMethods.produce, (sink) => ({
        onMessage: (message) => {
          up.onMessage(message)
          sink.write(Buffer.concat([Buffer.from('re:'), message]))
        },
        onClosed: (error) => {
          up.onClosed(error)
          sink.end()
        },
      }))
    })
    const down = new Recorder<Buffer>()
    const sink = connect(server.address).open(brokerMethods.produce, down)
    for (let number = 0; number < 1000; number += 1) sink.write(Buffer.from(String(number)))
    sink.write(Buffer.alloc(0))
    sink.end()
    await until(() => down.closed.length === 1)
    expect(up.closed).toEqual([undefined])
    expect(down.closed).toEqual([undefined])
    expect(down.messages.map(String)).toEqual([...Array.from({ length: 1000 }, (_, number) => `re:${number}`), 're:'])
  })

  test('a server may still write after the clean end of its client', async () => {
    const { listen, connect } = bench()
    const server = await listen((routes) => {
      routes.stream(brokerMethods.produce, (sink) => ({
        onMessage: () => {},
        onClosed: () => {
          setImmediate(() => {
            sink.write(Buffer.from('late'))
            sink.end()
          })
        },
      }))
    })
    const down = new Recorder<Buffer>()
    connect(server.address).open(brokerMethods.produce, down).end()
    await until(() => down.closed.length === 1)
    expect(down.messages.map(String)).toEqual(['late'])
    expect(down.closed).toEqual([undefined])
  })

  test('a handler that forgets to end is ended by the transport', async () => {
    const { listen, connect } = bench({ limits: { lingerMs: 30 } })
    const server = await listen((routes) => {
      routes.stream(brokerMethods.produce, () => ({ onMessage: () => {}, onClosed: () => {} }))
    })
    const down = new Recorder<Buffer>()
    connect(server.address).open(brokerMethods.produce, down).end()
    await until(() => down.closed.length === 1)
    expect(down.closed).toEqual([undefined])
  })

  test('objects pass as objects, and a status on a stream is data', async () => {
    const { listen, connect } = bench()
    const status = { code: 501, message: 'm', hint: 'h' }
    const server = await listen((routes) => {
      routes.stream(namesrvMethods.register, (sink) => ({
        onMessage: ({ node }) => sink.write(node === 'n0' ? { intervalMs: 5 } : { intervalMs: 6, status }),
        onClosed: () => sink.end(),
      }))
    })
    const down = new Recorder<unknown>()
    const sink = connect(server.address).open(namesrvMethods.register, down)
    const registration = { cluster: 'c', group: 'g', address: 'a', incarnation: 'i', term: 1, role: 'leader' }
    sink.write({ ...registration, node: 'n0', topics: [], topicsVersion: 0 })
    sink.write({ ...registration, node: 'n1', topics: [], topicsVersion: 0 })
    sink.end()
    await until(() => down.closed.length === 1)
    expect(down.messages).toStrictEqual([{ intervalMs: 5 }, { intervalMs: 6, status }])
  })

  test('a cancel by the server reaches the client with its code and facts, after what was written', async () => {
    const { listen, connect } = bench()
    const up = new Recorder<Buffer>()
    const server = await listen((routes) => {
      routes.stream(raftMethods.control, (sink) => {
        sink.write(Buffer.from('first'))
        sink.cancel(new LedgerError('WRONG_CLUSTER', 'not mine', { term: 4 }))
        return up
      })
    })
    const down = new Recorder<Buffer>()
    connect(server.address, 'control').open(raftMethods.control, down)
    await until(() => down.closed.length === 1 && up.closed.length === 1)
    expect(down.closed[0]).toMatchObject({ code: 'WRONG_CLUSTER', message: 'not mine', facts: { term: 4 } })
    expect(up.closed[0]).toMatchObject({ code: 'WRONG_CLUSTER' })
  })

  test('a cancel by the client closes both sides once and aborts the context', async () => {
    const { listen, connect } = bench()
    const up = new Recorder<Buffer>()
    let context: CallContext | undefined
    const server = await listen((routes) => {
      routes.stream(brokerMethods.pull, (_sink, given) => {
        context = given
        return up
      })
    })
    const down = new Recorder<Buffer>()
    const sink = connect(server.address).open(brokerMethods.pull, down)
    sink.write(Buffer.from('x'))
    await until(() => up.messages.length === 1)
    sink.cancel()
    sink.cancel()
    expect(down.closed, 'never from inside the call').toEqual([])
    await until(() => up.closed.length === 1 && down.closed.length === 1)
    expect(down.closed[0]?.code).toBe('ABORTED')
    expect(up.closed[0]?.code).toBe('UNAVAILABLE')
    expect(context?.signal.aborted).toBe(true)
    expect(sink.write(Buffer.from('y'))).toBe(false)
  })

  test('an exception in a handler breaks that stream and no other', async () => {
    const lines: LoggedLine[] = []
    const { listen, connect } = bench({ logger: recordingLogger(lines) })
    const server = await listen((routes) => {
      routes.stream(brokerMethods.produce, (sink) => ({
        onMessage: (message) => {
          if (message.toString() === 'bomb') throw new Error('boom')
          if (message.toString() === 'coded') throw new LedgerError('INVALID_REQUEST', 'not parsed')
          sink.write(message)
        },
        onClosed: () => sink.end(),
      }))
    })
    const channel = connect(server.address)
    const recorders = ['fine', 'bomb', 'coded'].map((text) => {
      const recorder = new Recorder<Buffer>()
      const sink = channel.open(brokerMethods.produce, recorder)
      sink.write(Buffer.from(text))
      return { recorder, sink }
    })
    await until(() => recorders[1]!.recorder.closed.length === 1 && recorders[2]!.recorder.closed.length === 1)
    expect(recorders[1]!.recorder.closed[0]).toMatchObject({ code: 'SYSTEM_ERROR', message: 'boom' })
    expect(recorders[2]!.recorder.closed[0]).toMatchObject({ code: 'INVALID_REQUEST', message: 'not parsed' })
    recorders[0]!.sink.write(Buffer.from('still'))
    await until(() => recorders[0]!.recorder.messages.length === 2)
    expect(recorders[0]!.recorder.closed).toEqual([])
    expect(lines.filter((line) => line.level === 'error')).toHaveLength(1)
  })

  test('an exception in a handler of the client breaks that stream and is told to it', async () => {
    const { listen, connect } = bench()
    const server = await listen((routes) => {
      routes.stream(brokerMethods.produce, (sink) => ({
        onMessage: (message) => sink.write(message),
        onClosed: () => {},
      }))
    })
    const closed: (LedgerError | undefined)[] = []
    const sink = connect(server.address).open(brokerMethods.produce, {
      onMessage: () => {
        throw new Error('mine')
      },
      onClosed: (error) => closed.push(error),
    })
    sink.write(Buffer.from('x'))
    await until(() => closed.length === 1)
    expect(closed[0]).toMatchObject({ code: 'SYSTEM_ERROR', message: 'mine' })
  })

  test('bytes that are no message of the method end the stream with INVALID_REQUEST', async () => {
    const { listen, connect } = bench()
    const up = new Recorder<unknown>()
    const server = await listen((routes) => routes.stream(namesrvMethods.watchRoute, () => up))
    const bytesMethod = { ...namesrvMethods.watchRoute, codec: 'bytes' } as unknown as typeof brokerMethods.produce
    const down = new Recorder<Buffer>()
    connect(server.address).open(bytesMethod, down).write(Buffer.from('0a7f41', 'hex'))
    await until(() => down.closed.length === 1 && up.closed.length === 1)
    expect(down.closed[0]?.code).toBe('INVALID_REQUEST')
    expect(up.messages).toEqual([])
  })

  test('write says false above the limit and onDrain says when to go on', async () => {
    const { listen, connect } = bench({ limits: { streamBufferBytes: 256 * 1024 } })
    let received = 0
    const server = await listen((routes) => {
      routes.stream(brokerMethods.produce, () => ({
        onMessage: (message) => {
          received += message.length
        },
        onClosed: () => {},
      }))
    })
    const total = 300
    const chunk = Buffer.alloc(64 * 1024, 1)
    let sent = 0
    let pauses = 0
    const pump = (): void => {
      while (sent < total) {
        sent += 1
        if (!sink.write(chunk)) {
          pauses += 1
          return
        }
      }
    }
    const sink: StreamSink<Buffer> = connect(server.address).open(brokerMethods.produce, {
      onMessage: () => {},
      onDrain: pump,
      onClosed: () => {},
    })
    pump()
    expect(sent, 'the first burst stops at the limit').toBeLessThan(10)
    await until(() => received === total * chunk.length)
    expect(pauses).toBeGreaterThan(10)
  })
})

describe('connections', () => {
  test('a call and a stream to a dead address fail promptly with UNAVAILABLE', async () => {
    const { connect } = bench()
    const channel = connect('127.0.0.1:1')
    using awake = new AwakeTime()
    const down = new Recorder<Buffer>()
    const sink = channel.open(brokerMethods.produce, down)
    expect(sink.write(Buffer.from('x'))).toBe(true)
    expect(await codeOf(channel.call(brokerMethods.probe, {}, soon))).toBe('UNAVAILABLE')
    await until(() => down.closed.length === 1)
    expect(down.closed[0]?.code).toBe('UNAVAILABLE')
    expect(await codeOf(channel.call(brokerMethods.probe, {}, soon))).toBe('UNAVAILABLE')
    expect(awake.ms).toBeLessThan(1000)
  })

  test('a server that accepts connections and says nothing is UNAVAILABLE for a stream', async () => {
    const { connect } = bench({ limits: { openTimeoutMs: 200 } })
    const mute = createServer(() => {})
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
    const down = new Recorder<Buffer>()
    connect(`127.0.0.1:${(mute.address() as { port: number }).port}`).open(brokerMethods.produce, down)
    await until(() => down.closed.length === 1)
    expect(down.closed[0]?.code).toBe('UNAVAILABLE')
    mute.close()
  })

  test('after a server was away for seconds the first success comes within about a second', async () => {
    const { listen, connect } = bench()
    const register = (routes: import('../../../src/rpc/transport.ts').ServerRoutes): void =>
      routes.unary(brokerMethods.probe, async () => probeReply)
    const first = await listen(register)
    const channels = [connect(first.address), connect(first.address, 'control')]
    const probe = (): Promise<string[]> =>
      Promise.all(channels.map((each) => codeOf(each.call(brokerMethods.probe, {}, soon))))
    expect(await probe()).toEqual(['none', 'none'])
    await first.close(0)
    const away = performance.now()
    using awake = new AwakeTime()
    while (performance.now() - away < 3000) {
      const startMs = awake.ms
      expect(await probe()).toEqual(['UNAVAILABLE', 'UNAVAILABLE'])
      expect(awake.ms - startMs, 'fails fast').toBeLessThan(500)
    }
    await listen(register, first.address)
    const backMs = awake.ms
    while ((await probe()).includes('UNAVAILABLE')) await new Promise((resolve) => setImmediate(resolve))
    expect(awake.ms - backMs).toBeLessThan(1200)
  })

  test('a broken connection closes its streams with UNAVAILABLE at once', async () => {
    const { listen, connect } = bench()
    const up = new Recorder<Buffer>()
    const server = await listen((routes) => routes.stream(raftMethods.control, () => up))
    const down = new Recorder<Buffer>()
    connect(server.address, 'control').open(raftMethods.control, down).write(Buffer.from('x'))
    await until(() => up.messages.length === 1)
    using awake = new AwakeTime()
    await server.close(0)
    await until(() => down.closed.length === 1)
    expect(awake.ms).toBeLessThan(500)
    expect(down.closed[0]?.code).toBe('UNAVAILABLE')
  })

  test('closing a channel ends its calls and streams with CLOSED, and it takes no more', async () => {
    const { listen, connect } = bench()
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, () => new Promise(() => {}))
      routes.stream(brokerMethods.produce, () => new Recorder<Buffer>())
    })
    const channel = connect(server.address)
    const down = new Recorder<Buffer>()
    channel.open(brokerMethods.produce, down)
    const call = codeOf(channel.call(brokerMethods.probe, {}, soon))
    channel.close()
    expect(await call).toBe('CLOSED')
    expect(await codeOf(channel.call(brokerMethods.probe, {}, soon))).toBe('CLOSED')
    const late = new Recorder<Buffer>()
    expect(channel.open(brokerMethods.produce, late).write(Buffer.from('x'))).toBe(false)
    await until(() => down.closed.length === 1 && late.closed.length === 1)
    expect([down.closed[0]?.code, late.closed[0]?.code]).toEqual(['CLOSED', 'CLOSED'])
  })

  test('channels of one address have connections of their own', async () => {
    const { listen, connect } = bench()
    const peers = new Set<string>()
    const server = await listen((routes) => {
      routes.unary(brokerMethods.probe, async (_request, context) => {
        peers.add(context.peer)
        return probeReply
      })
    })
    const purposes = ['client', 'control', 'bulk'] as const
    await Promise.all(purposes.map((purpose) => connect(server.address, purpose).call(brokerMethods.probe, {}, soon)))
    expect(peers.size).toBe(3)
  })
})
