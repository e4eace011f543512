/**
 * The one place that reaches behind the public face of grpc-js, whose version is pinned for it.
 *
 * Its server leaves HTTP/2 connections at a window of 64 KiB, which halves throughput; it turns a large `grpc-timeout`
 * into an overflown one that expires at once; and it gives no way to look at a stream before a handler runs or to
 * reset one whose peer does not read. All of it needs the http2 server inside. `verifyHooks` tries each of these on a
 * real connection before the first server of a process starts, and fails loudly when a new version breaks one.
 */
import {
  connect,
  constants,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, createServer } from 'node:net'
import { type handleBidiStreamingCall, Server, ServerCredentials } from '@grpc/grpc-js'
import { invariant } from '../common/assert.ts'
import type { LedgerError } from '../common/errors.ts'
import { toTrailers } from './grpc-status.ts'

export interface HookOptions {
  readonly connectionWindowBytes: number
  readonly streamWindowBytes: number
  onSession(session: ServerHttp2Session): void
  /** Before gRPC sees the stream; an error refuses it. `rawHeaders` alternates names and values. */
  admit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[]): LedgerError | undefined
}

export interface Hooks {
  /** The stream whose handler is being called right now: valid only synchronously inside a stream handler. */
  currentStream(): ServerHttp2Stream
}

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, raw: string[]) => void

/** Call after `createConnectionInjector` and before the first connection. */
export function hookServer(server: Server, options: HookOptions): Hooks {
  const http2 = innerServer(server)
  const inner = http2.listeners('stream') as StreamListener[]
  invariant(inner.length === 1, 'grpc-js changed: its http2 server has not one listener for streams')
  let current: ServerHttp2Stream | undefined
  http2.removeAllListeners('stream')
  http2.on('session', (session) => {
    if (session.destroyed) return
    session.setLocalWindowSize(options.connectionWindowBytes)
    session.settings({ initialWindowSize: options.streamWindowBytes })
    options.onSession(session)
  })
  http2.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, raw: string[]) => {
    const refusal = options.admit(stream, headers, raw)
    if (refusal !== undefined) {
      refuse(stream, refusal)
      return
    }
    dropAbsurdTimeout(headers)
    current = stream
    try {
      inner[0]?.call(http2, stream, headers, flags, raw)
    } catch {
      // Whatever a hostile client sends must not end this process.
      stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    } finally {
      current = undefined
    }
  })
  return {
    currentStream: () => {
      invariant(current !== undefined, 'grpc-js changed: stream handlers are not called synchronously')
      return current
    },
  }
}

function innerServer(server: Server): Http2Server {
  const servers: unknown = Reflect.get(server, 'http2Servers')
  invariant(servers instanceof Map && servers.size === 1, 'grpc-js changed: no http2 server inside its server')
  return [...servers.keys()][0] as Http2Server
}

/** Answers with a status alone and takes no more of the request. */
function refuse(stream: ServerHttp2Stream, error: LedgerError): void {
  stream.on('error', () => {})
  stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR))
  stream.respond(
    {
      [constants.HTTP2_HEADER_STATUS]: constants.HTTP_STATUS_OK,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc+proto',
      ...toTrailers(error),
    },
    { endStream: true },
  )
  stream.resume()
}

const timeoutHeader = 'grpc-timeout'
/** Longest wait of a Node timer; a longer one fires at once. */
const timerMsMax = 2 ** 31 - 1
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/** A deadline that cannot be kept, or read, counts as none. */
function dropAbsurdTimeout(headers: IncomingHttpHeaders): void {
  const value = headers[timeoutHeader]
  if (value === undefined) return
  const match = typeof value === 'string' ? /^(\d{1,8})([HMSmun])$/.exec(value) : null
  const ms = match === null ? Number.POSITIVE_INFINITY : Number(match[1]) * (unitMs[match[2] ?? ''] ?? 1)
  if (ms > timerMsMax) delete headers[timeoutHeader]
}

const probePath = '/ledgermq.Probe/Probe'
let verified: Promise<void> | undefined

/** Rejects when one of the hooks has no effect any more. Runs once per process, about ten milliseconds. */
export function verifyHooks(): Promise<void> {
  verified ??= probe()
  return verified
}

async function probe(): Promise<void> {
  const windowBytes = 3 * 1024 * 1024
  const server = new Server({ 'grpc.enable_channelz': 0 })
  const found = { session: false, admitted: false, stream: false, deadline: 0 }
  server.register<Buffer, Buffer>(
    probePath,
    ((call) => {
      found.stream = hooks.currentStream().id !== undefined
      found.deadline = Number(call.getDeadline())
      call.end()
    }) satisfies handleBidiStreamingCall<Buffer, Buffer>,
    (bytes) => bytes,
    (bytes) => bytes,
    'bidi',
  )
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const hooks = hookServer(server, {
    connectionWindowBytes: windowBytes,
    streamWindowBytes: windowBytes,
    onSession: () => {
      found.session = true
    },
    admit: (_stream, _headers, raw) => {
      found.admitted = raw.includes(timeoutHeader)
      return undefined
    },
  })
  const listener = createServer((socket) => injector.injectConnection(socket))
  try {
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen(0, '127.0.0.1', resolve)
    })
    const windows = await probeCall((listener.address() as AddressInfo).port)
    invariant(
      found.session && found.admitted && found.stream,
      'grpc-js changed: hooks of its http2 server are not called',
    )
    invariant(found.deadline === Number.POSITIVE_INFINITY, 'grpc-js changed: absurd timeouts are not dropped')
    invariant(windows.connection >= windowBytes, 'grpc-js changed: the connection window is not raised')
    invariant(windows.stream === windowBytes, 'grpc-js changed: the stream window is not raised')
  } finally {
    listener.close()
    server.forceShutdown()
  }
}

/** One call with an absurd timeout; the windows that the server granted by the time it answered. */
function probeCall(port: number): Promise<{ readonly connection: number; readonly stream: number }> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://127.0.0.1:${port}`)
    session.once('error', reject)
    session.once('remoteSettings', () => {
      const request = session.request({
        ':method': 'POST',
        ':path': probePath,
        'content-type': 'application/grpc',
        [timeoutHeader]: '99999999H',
      })
      request.once('error', reject)
      request.once('close', () => {
        const connection = session.state.remoteWindowSize ?? 0
        const stream = session.remoteSettings?.initialWindowSize ?? 0
        session.destroy()
        resolve({ connection, stream })
      })
      request.resume()
      request.end()
    })
  })
}
