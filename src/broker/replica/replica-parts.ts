/** What a replica is made of: given by `lifecycle.ts`, which recovered it and decides what follows when it ends. */
import type { LogHole } from '../../../store/index.ts'
import type { Logger } from '../../common/logger.ts'
import type { FirstConfiguration, LogRange } from '../../rpc/methods.ts'
import type { EventSink } from '../events.ts'
import type { BrokerOptions, BrokerPorts } from '../options.ts'
import type { Folder } from './folder.ts'
import type { Recovered } from './recovery.ts'
import type { SpacePatience } from './space-patience.ts'

export interface ReplicaParts {
  readonly options: BrokerOptions
  readonly ports: BrokerPorts
  readonly events: EventSink
  readonly logger: Logger
  readonly folder: Folder
  readonly configuration: FirstConfiguration
  readonly recovered: Recovered
  readonly patience: SpacePatience
  /** Where clients reach this node. */
  readonly address: string
  /** Where peers reach this node, unless its membership says otherwise. */
  readonly raftAddress: string
  /** This member refused us. */
  refused(node: string, reason: string): void
  /** The group's log begins behind the end of ours: only a copy helps. Told again and again. */
  leftBehind(firstIndex: number): void
  /** Entries that a member lacks could not be read here. Told again and again. */
  unreadable(range: LogRange): void
  /** The leader gives up the log from inside this hole on, or right behind it. The replica has stopped and must begin again. */
  cutInHole(hole: LogHole): void
  /** What is staged finds no space. The replica has stopped and must begin again without it. */
  staysFull(): void
  /** The log was cut or trimmed. What comes in its place may be acknowledged once this is fulfilled; null: at once. */
  shortened(): Promise<void> | null
  /** The core says that this node may vote again. */
  quarantineEnded(): void
  /** The replica has stopped for good and answers nobody. */
  failed(error: unknown): void
}
