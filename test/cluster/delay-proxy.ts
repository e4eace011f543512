/** A TCP proxy on loopback that holds back everything on its way to the target, for a time that can be changed. */
import { type AddressInfo, createServer, type Server, type Socket, connect as tcpConnect } from 'node:net'
import { systemClock } from '../../src/common/clock.ts'

export interface DelayProxy {
  readonly port: number
  /** From now on bytes towards the target are held back for so long, milliseconds. */
  delay(ms: number): void
  close(): Promise<void>
}

export async function startDelayProxy(targetPort: () => number): Promise<DelayProxy> {
  let delayMs = 0
  const sockets = new Set<Socket>()
  const keep = (socket: Socket): Socket => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => sockets.delete(socket))
    return socket
  }
  const server = createServer((client) => {
    const target = keep(tcpConnect(targetPort(), '127.0.0.1'))
    keep(client).once('close', () => target.destroy())
    target.once('close', () => client.destroy())
    target.pipe(client)
    holdBack(client, target, () => delayMs)
  })
  await listen(server)
  return {
    port: (server.address() as AddressInfo).port,
    delay: (ms) => {
      delayMs = ms
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}

/** Nothing overtakes: what comes after a shorter delay still waits for what came before it. */
function holdBack(from: Socket, to: Socket, delayMs: () => number): void {
  let lastDueMs = 0
  from.on('data', (bytes: Buffer) => {
    const nowMs = systemClock.monotonicMs()
    lastDueMs = Math.max(lastDueMs, nowMs + delayMs())
    if (lastDueMs <= nowMs) to.write(bytes)
    else systemClock.after(lastDueMs - nowMs, () => to.write(bytes))
  })
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
}
