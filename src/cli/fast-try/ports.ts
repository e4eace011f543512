/**
 * Finds the ports of a local cluster: the documented ones where they are free, others where they are taken. Called
 * once when a cluster is laid out; a restart uses the ports that were written down.
 */
import { createServer } from 'node:net'

export interface PortWish {
  readonly name: string
  readonly port: number
}

export interface FoundPort {
  readonly name: string
  readonly port: number
  /** The documented port when it was taken by somebody else, null otherwise. */
  readonly insteadOf: number | null
}

/** Every wish gets a port; no port is given twice. */
export async function findPorts(wishes: readonly PortWish[]): Promise<readonly FoundPort[]> {
  const taken = new Set<number>()
  const found: FoundPort[] = []
  for (const wish of wishes) {
    const port = !taken.has(wish.port) && (await isFree(wish.port)) ? wish.port : await freePort(taken)
    taken.add(port)
    found.push({ name: wish.name, port, insteadOf: port === wish.port ? null : wish.port })
  }
  return found
}

function isFree(port: number): Promise<boolean> {
  return tryListen(port).then(
    () => true,
    () => false,
  )
}

async function freePort(taken: ReadonlySet<number>): Promise<number> {
  for (;;) {
    const port = await tryListen(0)
    if (!taken.has(port)) return port
  }
}

function tryListen(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      const address = server.address()
      const bound = typeof address === 'object' && address ? address.port : port
      server.close(() => resolve(bound))
    })
  })
}
