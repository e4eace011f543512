/**
 * One broker process: a replica of one group with its two servers, its registrations and its events.
 *
 * `startBroker` is called by the command line, by the embedded cluster and by the simulator; everything it stands on
 * comes in through `BrokerPorts`, nothing is global. A node that may not take part in its group stays up and says why.
 */

import { defaultRaftConfig } from '../../raft/index.ts'
import { LedgerError } from '../common/errors.ts'
import type { Logger } from '../common/logger.ts'
import type { FirstConfiguration, Hello, ReplicaStatusReply } from '../rpc/methods.ts'
import { raftMethods } from '../rpc/methods.ts'
import type { Server, ServerRoutes } from '../rpc/transport.ts'
import type { ReplicaApi } from './contract.ts'
import { EventRing } from './events.ts'
import { defaultHandlerSettings, type HandlerContext } from './handler/context.ts'
import { registerEventHandlers } from './handler/events.ts'
import { registerMembershipHandlers } from './handler/membership.ts'
import { type BrokerHandlers, registerBrokerHandlers } from './handler/register.ts'
import { registerStatusHandlers } from './handler/status.ts'
import { Housekeeper } from './housekeeper.ts'
import { LateRoutes } from './late-routes.ts'
import { MembershipDriver } from './membership/driver.ts'
import { type BrokerOptions, type BrokerPorts, checkBrokerOptions, limitsOf } from './options.ts'
import { Registrar } from './registrar.ts'
import { Bootstrap } from './replica/bootstrap.ts'
import { type CopySource, registerCopyServer } from './replica/copy-server.ts'
import { askWho, describe } from './replica/describe.ts'
import { type Folder, openFolder } from './replica/folder.ts'
import { handOver } from './replica/hand-over.ts'
import { Joining } from './replica/joining.ts'
import { ReplicaLifecycle } from './replica/lifecycle.ts'
import { checkHello, type OwnIdentity, registerPeerServer } from './replica/peer-server.ts'
import { prepareHardState } from './replica/recovery.ts'
import { RefusalLog } from './replica/refusal-log.ts'
import type { Replica } from './replica/replica.ts'
import { strangerStatus } from './replica/status.ts'
import { Stranger } from './replica/stranger.ts'
import { upkeepReason } from './replica/upkeep-status.ts'
import { startError } from './start-error.ts'

/** Time for the last messages to leave after storage failed, before the process is stopped. */
const fatalDelayMs = 200
/** Time for running calls on a graceful stop. */
const closeGraceMs = 100

export interface Broker {
  /** Where clients reach it. */
  readonly address: string
  readonly raftAddress: string
  readonly events: EventRing
  /** Null while the group is not bootstrapped, while a copy is put in force, and for good on a stranger. */
  readonly replica: Replica | null
  /** Settles when it is known whether this node takes part in its group. */
  readonly joined: Promise<void>
  status(): ReplicaStatusReply
  /**
   * Graceful stop: leadership is handed over first (bounded), then the namesrvs are told, everything staged is made
   * durable, and the folder is left with a clean mark. A second call cuts the waits short.
   */
  close(): Promise<void>
}

/**
 * Starts a broker. Rejects with CONFIG_INVALID, PORT_IN_USE, FOREIGN_FOLDER or FOLDER_IN_USE; then nothing is left
 * behind. Resolves once it listens; a member that was bootstrapped before has then recovered, too.
 */
export async function startBroker(options: BrokerOptions, ports: BrokerPorts): Promise<Broker> {
  checkBrokerOptions(options)
  const node = new BrokerNode(options, ports)
  try {
    await node.start()
    return node
  } catch (error) {
    await node.abandon()
    throw startError(error)
  }
}

class BrokerNode implements Broker {
  readonly events: EventRing
  joined: Promise<void> = Promise.resolve()
  readonly #options: BrokerOptions
  readonly #ports: BrokerPorts
  readonly #logger: Logger
  readonly #startedMs: number
  readonly #routes: LateRoutes
  readonly #refusals: RefusalLog
  readonly #hurry = new AbortController()
  #servers: { readonly client: Server; readonly raft: Server } | null = null
  #clientServer: Server | null = null
  #folder: Folder | null = null
  #bootstrap: Bootstrap | null = null
  #joining: Joining | null = null
  /** Ends when this node was brought into its group, or stops. */
  #outside: Promise<void> = Promise.resolve()
  #lifecycle: ReplicaLifecycle | null = null
  #handlers: BrokerHandlers[] = []
  #registrar: Registrar | null = null
  #housekeeper: Housekeeper | null = null
  #serves = false
  /** Why this node cannot go on. */
  #failure: string | null = null
  #closing: Promise<void> | null = null

  constructor(options: BrokerOptions, ports: BrokerPorts) {
    const { clock } = ports
    this.#options = options
    this.#ports = ports
    this.#logger = ports.logger.child({ group: options.group, node: options.node })
    this.#startedMs = clock.monotonicMs()
    this.events = new EventRing({ clock, group: options.group, node: options.node })
    this.#refusals = new RefusalLog(clock, this.events, this.#logger)
    this.#routes = new LateRoutes(
      () => this.#absent(),
      () => this.#isOutside(),
    )
  }

  get address(): string {
    return this.#options.advertised ?? this.#servers?.client.address ?? ''
  }

  get raftAddress(): string {
    return this.#servers?.raft.address ?? ''
  }

  get replica(): Replica | null {
    return this.#lifecycle?.replica ?? null
  }

  /** Ports first: when one is taken, the folder is not touched. */
  async start(): Promise<void> {
    const { transport } = this.#ports
    const { options, context } = { options: this.#options, context: this.#context(this.#stranger()) }
    registerStatusHandlers(this.#routes.routes, context)
    this.#handlers.push(registerEventHandlers(this.#routes.routes, context))
    this.#clientServer = await transport.listen(options.listen, (routes) => this.#routes.register(routes))
    const raft = await transport.listen(this.#raftListen(), (routes) => this.#registerRaft(routes))
    this.#servers = { client: this.#clientServer, raft }
    const folder = await openFolder(options, this.#ports)
    this.#folder = folder
    this.#checkConfiguration(folder.configuration)
    const bootstrap = this.#makeBootstrap(folder)
    this.#bootstrap = bootstrap
    await this.#checkJoin(folder)
    this.events.emit('node_started', 0, { address: this.address, raftAddress: this.raftAddress })
    if (bootstrap.outcome) await this.#join(folder, bootstrap)
    else this.joined = this.#join(folder, bootstrap).catch((error: unknown) => this.#fail(error))
  }

  status(): ReplicaStatusReply {
    const upkeep = this.#lifecycle?.upkeep
    if (this.replica && this.#failure === null) {
      const told = upkeep ? upkeepReason(upkeep) : null
      return { ...this.replica.status(), ...upkeep, ...(told === null ? {} : { reason: told }) }
    }
    const { cluster, group, node } = this.#options
    const uptimeMs = this.#ports.clock.monotonicMs() - this.#startedMs
    const pid = this.#ports.pid ?? 0
    const reason = this.#reason()
    return { ...strangerStatus({ cluster, group, node, pid, uptimeMs, address: this.address, reason }), ...upkeep }
  }

  close(): Promise<void> {
    if (this.#closing) this.#hurry.abort()
    else this.#closing = this.#close()
    return this.#closing
  }

  /** Start failed: gives back what was taken. */
  async abandon(): Promise<void> {
    this.#hurry.abort()
    await this.#close()
  }

  /** Finds out what this node is to its group, and takes part; one that has to be brought in waits for it. */
  async #join(folder: Folder, bootstrap: Bootstrap): Promise<void> {
    const { join = [] } = this.#options
    const outcome = bootstrap.outcome ?? (join.length > 0 ? null : await bootstrap.run())
    if (outcome?.kind === 'member') await this.#takePart(folder, outcome.configuration)
    else if (outcome?.kind !== 'stopped') {
      const joining = this.#joining ?? this.#makeJoining(folder)
      this.#joining = joining
      this.#outside = this.#waitOutside(joining, folder, bootstrap).catch((error: unknown) => this.#fail(error))
    }
  }

  #makeJoining(folder: Folder): Joining {
    const { clock, transport } = this.#ports
    const { join = [], members, node } = this.#options
    const others = members.filter((member) => member.node !== node).map((member) => member.raftAddress)
    const refuses = (configuration: FirstConfiguration): LedgerError | null => this.#refusal(configuration)
    const parts = { clock, transport, logger: this.#logger, identity: folder.identity, refuses }
    return new Joining(parts, [...new Set([...join, ...others])])
  }

  async #waitOutside(joining: Joining, folder: Folder, bootstrap: Bootstrap): Promise<void> {
    const configuration = this.#closing ? null : await joining.run()
    if (!configuration || this.#closing) return
    await bootstrap.join(configuration)
    this.#logger.info('this node was brought into its group', { incarnation: configuration.incarnation })
    await this.#takePart(folder, configuration)
  }

  async #takePart(folder: Folder, configuration: FirstConfiguration): Promise<void> {
    if (this.#closing) return
    this.#checkConfiguration(configuration)
    const lifecycle = new ReplicaLifecycle({
      options: this.#options,
      ports: this.#ports,
      events: this.events,
      logger: this.#logger,
      folder,
      configuration,
      address: this.address,
      raftAddress: this.raftAddress,
      refused: (node, reason) => this.#refusals.outgoing(node, reason),
      begins: () => this.#begins(lifecycle.api),
      failed: (error) => this.#fail(error),
    })
    this.#lifecycle = lifecycle
    await lifecycle.start()
  }

  /** The first replica brings its handlers; a later one takes the place of the first behind them. */
  #begins(replica: ReplicaApi): void {
    if (this.#serves) {
      for (const handlers of this.#handlers) handlers.renewed?.()
      return
    }
    this.#serves = true
    const { clock } = this.#ports
    this.#handlers.push(registerBrokerHandlers(this.#routes.routes, this.#context(replica)))
    this.#housekeeper = new Housekeeper({
      replica,
      clock,
      logger: this.#logger,
      settings: this.#options.housekeeping ?? {},
    })
    this.#administer(replica)
    replica.onRoleChanged(() => this.#register(replica))
    this.#register(replica)
    this.#housekeeper.start()
  }

  #administer(api: ReplicaApi): void {
    const { clock, transport } = this.#ports
    const { cluster, group, node, raft } = this.#options
    const driver = new MembershipDriver({
      clock,
      logger: this.#logger,
      electionTimeoutMs: raft?.electionTimeoutMinMs ?? defaultRaftConfig.electionTimeoutMinMs,
      replica: () => this.replica,
      onChanged: (listener) => api.onRoleChanged(listener),
    })
    registerMembershipHandlers(this.#routes.routes, {
      api,
      driver,
      replica: () => this.replica,
      describe: (raftAddress) =>
        askWho(transport, raftAddress, { cluster, group, fromNode: node, fromDisk: this.#folder?.identity.disk ?? '' }),
    })
    this.#handlers.push(driver)
    driver.start()
  }

  /** Members are registered with the namesrvs; a node that is none must not be found by clients. */
  #register(replica: ReplicaApi): void {
    const standing = this.replica?.standing
    if (standing === undefined || this.#closing) return
    if (standing === 'removed' || standing === 'stranger') {
      this.#registrar?.close()
      this.#registrar = null
      this.#routes.leave()
      return
    }
    if (this.#registrar) return
    const { clock, random, transport } = this.#ports
    const { registerIntervalMs: intervalMs, namesrv } = this.#options
    const parts = {
      clock,
      random,
      transport,
      logger: this.#logger,
      events: this.events,
      replica,
      address: this.address,
    }
    this.#registrar = new Registrar(intervalMs === undefined ? parts : { ...parts, intervalMs }, namesrv)
    this.#registrar.start()
  }

  #isOutside(): boolean {
    const standing = this.replica?.standing
    return standing === 'removed' || standing === 'stranger'
  }

  #registerRaft(routes: ServerRoutes): void {
    registerPeerServer(routes, {
      clock: this.#ports.clock,
      identity: () => this.#identity(),
      greeted: (hello) => this.replica?.greeted(hello),
      refused: (hello, reason, absent) => {
        if (absent) this.#joining?.hint(hello?.fromRaftAddress ?? '')
        this.#refusals.incoming(hello?.fromNode ?? '', reason, absent)
      },
      receive: (message, wallMs, frames) => this.replica?.receive(message, wallMs, frames),
    })
    registerCopyServer(routes, { clock: this.#ports.clock, source: (hello) => this.#copySource(hello) })
    routes.unary(raftMethods.bootstrap, async (request) => {
      if (!this.#bootstrap) throw this.#absent()
      return this.#bootstrap.answer(request)
    })
    routes.unary(raftMethods.describe, async (request) => {
      if (!this.#folder || !this.#bootstrap) throw this.#absent()
      const { outcome } = this.#bootstrap
      const configuration = outcome?.kind === 'member' ? outcome.configuration : null
      return describe(request, { identity: this.#folder.identity, configuration, replica: this.replica })
    })
  }

  #identity(): OwnIdentity | { readonly absent: string } {
    const outcome = this.#bootstrap?.outcome
    if (!this.#folder || !this.replica || outcome?.kind !== 'member') return { absent: this.#reason() }
    const { node, disk } = this.#folder.identity
    return { node, disk, configuration: outcome.configuration, history: this.replica.history }
  }

  /** Whoever may dial us may copy from us. */
  #copySource(hello: Hello | undefined): CopySource {
    const own = this.#identity()
    const { replica } = this
    if ('absent' in own || !replica) throw this.#absent()
    if (!hello) throw new LedgerError('INVALID_REQUEST', 'the caller does not say who it is')
    const refusal = checkHello(hello, own)
    if (refusal) throw new LedgerError(refusal.code, refusal.reason)
    return replica.copySource(this.#lifecycle?.upkeep.lost ?? [])
  }

  #makeBootstrap(folder: Folder): Bootstrap {
    const { clock, random, transport } = this.#ports
    return new Bootstrap(
      {
        clock,
        random,
        transport,
        logger: this.#logger,
        options: this.#options,
        identity: folder.identity,
        save: async (configuration) => {
          await prepareHardState(this.#ports.disk, folder.directory)
          await folder.records.saveConfiguration(configuration)
        },
      },
      folder.configuration,
    )
  }

  /** An operator who gave a joining node other settings than the group has learns it before it says that it is ready. */
  async #checkJoin(folder: Folder): Promise<void> {
    const { join = [], segmentBytes } = this.#options
    if (folder.configuration || join.length === 0 || segmentBytes === undefined) return
    this.#joining = this.#makeJoining(folder)
    await this.#joining.check()
  }

  #checkConfiguration(configuration: FirstConfiguration | null): void {
    const refusal = configuration && this.#refusal(configuration)
    if (refusal) throw refusal
  }

  #refusal(configuration: FirstConfiguration): LedgerError | null {
    const wanted = this.#options.segmentBytes
    if (wanted === undefined || wanted === configuration.segmentBytes) return null
    const fixed = `the group was made with ${configuration.segmentBytes}, which is fixed for ever; leave it out to take it`
    return new LedgerError('CONFIG_INVALID', `segmentBytes: is ${wanted}, but ${fixed}`)
  }

  #context(replica: ReplicaApi): HandlerContext {
    const { clock, random } = this.#ports
    const settings = { ...defaultHandlerSettings, tailCacheBytes: limitsOf(this.#options).tailCacheBytes }
    return { replica, events: this.events, clock, random, logger: this.#logger, settings, status: () => this.status() }
  }

  #stranger(): Stranger {
    return new Stranger(this.#options, () => this.#absent())
  }

  #absent(): LedgerError {
    return new LedgerError('SERVICE_NOT_AVAILABLE', this.#reason())
  }

  #reason(): string {
    const reason = this.#failure ?? this.#lifecycle?.reason
    if (reason) return reason
    if (this.replica && this.#isOutside()) return this.replica.status().reason
    // A node that lost its disk says so; one that was started to join says what it waits for.
    if (this.#bootstrap?.outcome?.kind === 'stranger' && !this.#joining?.isRefused) return this.#bootstrap.reason
    return this.#joining?.reason ?? this.#bootstrap?.reason ?? 'STARTING: this broker is starting'
  }

  #raftListen(): string {
    const own = this.#options.members.find((member) => member.node === this.#options.node)
    return this.#options.raftListen ?? own?.raftAddress ?? ''
  }

  /** The replica or the join failed for good: let the last messages leave, then ask for the end of the process. */
  #fail(error: unknown): void {
    const failure = error instanceof Error ? error : new Error(String(error))
    this.#logger.error('this broker stops, because it cannot go on safely', { error: failure.message })
    this.#failure ??= `FAILED: ${failure.message}`
    this.#ports.clock.after(fatalDelayMs, () => this.#ports.fatal(failure))
  }

  async #close(): Promise<void> {
    this.events.emit('node_stopping', this.replica?.term ?? 0, {})
    this.#bootstrap?.stop()
    this.#joining?.stop()
    const { transferMsMax } = limitsOf(this.#options)
    if (this.replica) await handOver(this.replica, this.#ports.clock, transferMsMax, this.#hurry.signal)
    this.#housekeeper?.close()
    this.#registrar?.close()
    for (const handlers of this.#handlers) handlers.close()
    const graceMs = this.#hurry.signal.aborted ? 0 : closeGraceMs
    await Promise.all([this.#clientServer?.close(graceMs), this.#servers?.raft.close(graceMs)])
    // A node that was brought in and gets no answer from its group would ask on.
    this.#lifecycle?.stop()
    await this.joined
    await this.#outside
    if (await this.#closeStorage()) await this.#markClean()
  }

  /** Without the mark, on a full disk for example, the next start believes less and checks more. */
  async #markClean(): Promise<void> {
    try {
      await this.#folder?.markClean()
    } catch (error) {
      this.#logger.warn('the clean stop could not be noted', { error: String(error) })
    }
  }

  /** True when everything on disk is complete, so that the next start may trust it. */
  async #closeStorage(): Promise<boolean> {
    if (this.#lifecycle) return this.#lifecycle.close()
    await this.#folder?.store.close()
    return this.#failure === null
  }
}
