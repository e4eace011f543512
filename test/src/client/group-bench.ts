/**
 * A real broker group with its operator and its clients, for tests of consumer groups: settings, calls that are
 * held back or whose answers are lost.
 */
import type { Replica } from '../../../src/broker/replica/replica.ts'
import type { Client } from '../../../src/client/client.ts'
import type { GroupSettingsOptions } from '../../../src/client/group-admin.ts'
import type { ClientStatus } from '../../../src/client/types.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import type { DescribeGroupReply } from '../../../src/rpc/group-messages.ts'
import { adminMethods } from '../../../src/rpc/methods.ts'
import type { Transport, UnaryMethod } from '../../../src/rpc/transport.ts'
import { ClientCluster } from './client-cluster.ts'

export class GroupBench {
  readonly cluster: ClientCluster = new ClientCluster()
  client!: Client

  static async open(queues = 1): Promise<GroupBench> {
    const bench = new GroupBench()
    await bench.cluster.start()
    bench.client = await bench.cluster.connect()
    await bench.client.admin().createTopic({ topic: 'Orders', queues })
    return bench
  }

  async end(): Promise<void> {
    await this.cluster.end()
  }

  /** To the queues in turn; one batch each. */
  async produce(count: number, prefix = 'm'): Promise<void> {
    const producer = this.client.producer({ sendTimeoutMs: 60_000 })
    for (let index = 0; index < count; index++) await producer.send({ topic: 'Orders', body: `${prefix}${index}` })
    await producer.close()
  }

  async ask<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response> {
    const leader = await this.cluster.brokers.leader()
    const channel = this.cluster.brokers.network.endpoint('operator').connect(`${leader}:30911`, 'client')
    try {
      return await channel.call(method, request, { timeoutMs: 30_000 })
    } finally {
      channel.close()
    }
  }

  async setGroup(settings: GroupSettingsOptions): Promise<void> {
    await this.client
      .admin()
      .consumerGroups()
      .set('G', { retryDelaysMs: [1], ...settings })
  }

  describe(): Promise<DescribeGroupReply> {
    return this.ask(adminMethods.describeGroup, { group: 'G' })
  }

  async leader(): Promise<Replica> {
    return this.cluster.brokers.replica(await this.cluster.brokers.leader())
  }

  /** What the client tells from now on. */
  hear(client: Client = this.client): readonly ClientStatus[] {
    const told: ClientStatus[] = []
    void (async () => {
      for await (const status of client.status()) told.push(status)
    })()
    return told
  }
}

/** What happens to the calls of one method on their way. */
export class Toll {
  readonly #method: string
  /** They fail before they leave. */
  isShut = false
  /** So many of the answers are lost. */
  lose = 0
  passed = 0

  constructor(method: string) {
    this.#method = method
  }

  before(transport: Transport): Transport {
    const connect: Transport['connect'] = (address, purpose) => {
      const channel = transport.connect(address, purpose)
      const call: typeof channel.call = async (method, request, options) => {
        if (method.name !== this.#method) return channel.call(method, request, options)
        if (this.isShut) throw new LedgerError('UNAVAILABLE', 'the road is closed')
        const answer = await channel.call(method, request, options)
        this.passed++
        if (this.lose-- > 0) throw new LedgerError('UNAVAILABLE', 'the answer is lost')
        return answer
      }
      return { ...channel, address, call, open: (...given) => channel.open(...given), close: () => channel.close() }
    }
    return { listen: (address, register) => transport.listen(address, register), connect }
  }
}
