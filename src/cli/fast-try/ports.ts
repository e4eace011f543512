/**
 * Finds the ports of a local cluster: the documented ones where they are free, others where they are taken. Called
 * once when a cluster is laid out; a restart uses the ports that were written down.
 *
 * The others lie below the range from which systems take ports for outgoing connections: one of those could be gone
 * when a killed node wants it back.
 */
import { createServer } from 'node:net'
import { type Random, systemRandom } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'

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

const otherPorts = { from: 10_000, to: 30_900 } as const
const triesMax = 1000

/** Every wish gets a port; no port is given twice. `anyPorts`: none is the documented one, for clusters side by side. */
export async function findPorts(
  wishes: readonly PortWish[],
  options: { readonly anyPorts?: boolean; readonly random?: Random } = {},
): Promise<readonly FoundPort[]> {
  const { anyPorts = false, random = systemRandom } = options
  const taken = new Set<number>()
  const found: FoundPort[] = []
  for (const wish of wishes) {
    const asWished = !anyPorts && !taken.has(wish.port) && (await isFree(wish.port))
    const port = asWished ? wish.port : await freePort(taken, random)
    taken.add(port)
    found.push({ name: wish.name, port, insteadOf: port === wish.port ? null : wish.port })
  }
  return found
}

async function freePort(taken: ReadonlySet<number>, random: Random): Promise<number> {
  for (let tries = 0; tries < triesMax; tries++) {
    const port = otherPorts.from + Math.floor(random.next() * (otherPorts.to - otherPorts.from))
    if (!taken.has(port) && (await isFree(port))) return port
  }
  const range = `${otherPorts.from} to ${otherPorts.to}`
  throw new LedgerError('PORT_IN_USE', `no free port was found from ${range} in ${triesMax} tries`)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)))
  })
}
