/**
 * A namesrv and one or more broker groups on a memory network, with the SDK beside them: production code on both sides,
 * the time of the group for all of them, processes that can be killed and links that can be cut.
 */
import type { Client } from '../../../src/client/client.ts'
import { openClient } from '../../../src/client/client.ts'
import type { ConnectOptions } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { type Namesrv, startNamesrv } from '../../../src/namesrv/namesrv.ts'
import type { Transport } from '../../../src/rpc/transport.ts'
import { eventually } from '../../support/eventually.ts'
import { MemoryCluster } from '../../support/memory-cluster.ts'

export class ClientCluster {
  readonly brokers: MemoryCluster
  readonly #clients: Client[] = []
  #namesrv: Namesrv | null = null
  #clientCount = 0

  constructor(nodes: readonly string[] = ['n0', 'n1', 'n2']) {
    this.brokers = new MemoryCluster({ nodes, broker: { namesrv: ['ns0:9876'], registerIntervalMs: 1_000 } })
  }

  get namesrv(): Namesrv {
    if (!this.#namesrv) throw new Error('no namesrv runs')
    return this.#namesrv
  }

  async start(): Promise<void> {
    await this.startNamesrv()
    await this.brokers.start()
    const leader = await this.brokers.leader()
    await eventually('the namesrv knows the leader and all nodes', () => {
      const [group] = this.namesrv.route([]).groups
      return group?.leader === leader && group.nodes.length === this.brokers.nodes.length
    })
  }

  async startNamesrv(): Promise<void> {
    const { clock, network } = this.brokers
    const ports = { transport: network.endpoint('ns0'), clock, logger: silentLogger }
    this.#namesrv = await startNamesrv({ listen: 'ns0:9876' }, ports)
  }

  killNamesrv(): void {
    this.brokers.network.kill('ns0')
    this.#namesrv = null
  }

  /** `between` stands between the client and the network. */
  async connect(
    options: Partial<ConnectOptions> = {},
    between: (transport: Transport) => Transport = (transport) => transport,
  ): Promise<Client> {
    const { clock, network } = this.brokers
    const transport = between(network.endpoint(`client${this.#clientCount++}`))
    const ports = { transport, clock, random: systemRandom }
    const client = await openClient(ports, { namesrv: 'ns0:9876', ...options })
    this.#clients.push(client)
    return client
  }

  async end(): Promise<void> {
    this.brokers.network.heal()
    await Promise.all(this.#clients.map((client) => client.close()))
    this.brokers.end()
    await this.#namesrv?.close()
  }
}
