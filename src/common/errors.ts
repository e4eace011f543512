/**
 * Every error that LedgerMQ tells a user, in one table: what it means for the message, whether to try again, what
 * to do. Brokers answer with these, the SDK throws them, the command line prints them.
 *
 * `family` says how it travels: `response` = a well-formed request that the broker judged (gRPC status OK and a
 * response code), `call` = the call itself was no valid request (gRPC status), `local` = made by the process itself.
 * `stored` says what became of a message that was being sent: `no` = definitely not stored, `unknown` = may or may
 * not be stored. Numbers are RocketMQ's (`ResponseCode`) where it has one, from 500 up where it has none.
 */

interface ErrorKind {
  readonly number: number
  readonly family: 'response' | 'call' | 'local'
  readonly retryable: boolean
  readonly stored: 'no' | 'unknown'
  readonly hint: string
}

export const errorTable = {
  SYSTEM_ERROR: {
    number: 1,
    family: 'response',
    retryable: true,
    stored: 'unknown',
    hint: 'An unexpected failure, most likely a bug; the log of the process that reports it holds the cause.',
  },
  OUTCOME_UNKNOWN: {
    number: 10,
    family: 'response',
    retryable: true,
    stored: 'unknown',
    hint: 'The leader changed or the quorum was lost after the request was accepted. A retry of the same batch by the same producer is stored once.',
  },
  NO_QUORUM: {
    number: 12,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'No leader can reach a majority of its replicas. Bring replicas back: `ledgermq cluster list` shows which are down.',
  },
  MESSAGE_ILLEGAL: {
    number: 13,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The message or batch breaks a limit or a checksum; sending it again cannot help.',
  },
  SERVICE_NOT_AVAILABLE: {
    number: 14,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The broker is starting or stopping; another replica may serve.',
  },
  NO_PERMISSION: {
    number: 16,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The topic does not allow this, or the name is reserved for the system.',
  },
  TOPIC_NOT_EXIST: {
    number: 17,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'Create the topic with `ledgermq topic create`, or allow automatic creation.',
  },
  TOPIC_EXISTS: {
    number: 18,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'A topic of this name exists with other settings; update it or choose another name.',
  },
  PULL_OFFSET_MOVED: {
    number: 21,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The offset is outside the queue; seek to one between the minimum and maximum offset that the error names.',
  },
  SUBSCRIPTION_GROUP_NOT_EXIST: {
    number: 26,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The consumer group has never consumed on this broker group.',
  },
  INVALID_PARAMETER: {
    number: 29,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'Correct the argument that the message names.',
  },
  FLOW_CONTROL: {
    number: 215,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The broker has as much in flight as it allows; try again after `retryAfterMs`.',
  },
  NOT_LEADER: {
    number: 501,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'This replica does not lead its broker group; go to the leader that the error names.',
  },
  DISK_FULL: {
    number: 502,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The broker has no disk space for more log; reads go on. Free space or add a broker group.',
  },
  SEQUENCE_TOO_OLD: {
    number: 503,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'A newer batch of this producer is already stored in the queue; this one was superseded.',
  },
  UNKNOWN_PRODUCER: {
    number: 504,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The broker does not know this producer any more (idle for too long); the SDK starts a new sequence.',
  },
  ILLEGAL_GENERATION: {
    number: 505,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The group was rebalanced; take the new assignment before committing.',
  },
  ROLLED_BACK: {
    number: 506,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The entry was overwritten by a newer leader and is definitely not stored.',
  },
  DATA_LOSS: {
    number: 507,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The stored bytes do not pass their checksum on this replica; another replica may have them.',
  },
  TOPIC_ID_CHANGED: {
    number: 508,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The topic was deleted and created again; refresh the route.',
  },
  REPLICA_BEHIND: {
    number: 509,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'This replica has not yet applied the write that the reader must see; the leader has.',
  },
  CHANGE_IN_PROGRESS: {
    number: 511,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'One change of membership at a time: wait for the one that the message names, `ledgermq raft members` shows it.',
  },
  NOT_A_MEMBER: {
    number: 512,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The node does not belong to the broker group in the wanted role; `ledgermq raft members` lists who does.',
  },
  ALREADY_A_MEMBER: {
    number: 513,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The node or its disk belongs to the broker group already; one that came back with another disk is replaced.',
  },
  WOULD_LOSE_QUORUM: {
    number: 514,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'The change would leave the group without a majority of reachable voters. Bring replicas back first, or force it.',
  },
  NOT_CAUGHT_UP: {
    number: 515,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The learner does not hold the log yet; try again when its lag in `ledgermq raft members` is small.',
  },
  FOREIGN_GROUP: {
    number: 516,
    family: 'response',
    retryable: false,
    stored: 'no',
    hint: 'Who has this address is no part of the broker group that is meant, and was not started to join it; check address, node and group.',
  },
  NODE_UNREACHABLE: {
    number: 517,
    family: 'response',
    retryable: true,
    stored: 'no',
    hint: 'The leader got no answer from the node, so nothing was changed: start it (a new one with --join), or correct its raft address.',
  },

  INVALID_REQUEST: {
    number: 600,
    family: 'call',
    retryable: false,
    stored: 'no',
    hint: 'The request cannot be parsed or misses a field.',
  },
  WRONG_CLUSTER: {
    number: 601,
    family: 'call',
    retryable: false,
    stored: 'no',
    hint: 'The peer belongs to another cluster, group, incarnation or disk; check addresses and data folders.',
  },
  UNAUTHENTICATED: { number: 602, family: 'call', retryable: false, stored: 'no', hint: 'Send valid credentials.' },
  PERMISSION_DENIED: {
    number: 603,
    family: 'call',
    retryable: false,
    stored: 'no',
    hint: 'The principal may not call this method.',
  },
  UNIMPLEMENTED: {
    number: 604,
    family: 'call',
    retryable: false,
    stored: 'no',
    hint: 'The server does not know this method; compare versions.',
  },
  OVERLOADED: {
    number: 605,
    family: 'call',
    retryable: true,
    stored: 'no',
    hint: 'The connection or the server is over its limits; slow down.',
  },
  UNAVAILABLE: {
    number: 606,
    family: 'call',
    retryable: true,
    stored: 'unknown',
    hint: 'The connection failed or broke; is the process running at this address?',
  },
  DEADLINE_EXCEEDED: {
    number: 607,
    family: 'call',
    retryable: true,
    stored: 'unknown',
    hint: 'No answer within the deadline.',
  },

  TIMEOUT: {
    number: 700,
    family: 'local',
    retryable: true,
    stored: 'unknown',
    hint: 'No definite answer within the total time; `attempts` lists what was tried.',
  },
  ABORTED: {
    number: 701,
    family: 'local',
    retryable: false,
    stored: 'unknown',
    hint: 'The caller aborted the operation by its signal.',
  },
  CLOSED: {
    number: 702,
    family: 'local',
    retryable: false,
    stored: 'no',
    hint: 'The client, producer or consumer is closed or was never started.',
  },
  NO_ROUTE: {
    number: 703,
    family: 'local',
    retryable: true,
    stored: 'no',
    hint: 'No namesrv knows a usable broker for this topic or broker group; is the cluster running and the namesrv address right?',
  },
  BUFFER_FULL: {
    number: 704,
    family: 'local',
    retryable: true,
    stored: 'no',
    hint: 'The send buffer is full; wait for earlier sends to finish.',
  },
  CONFIG_INVALID: {
    number: 705,
    family: 'local',
    retryable: false,
    stored: 'no',
    hint: 'Correct the configuration key that the message names.',
  },
  PORT_IN_USE: {
    number: 706,
    family: 'local',
    retryable: false,
    stored: 'no',
    hint: 'Another process listens on this port; stop it or choose another port.',
  },
  FOLDER_IN_USE: {
    number: 707,
    family: 'local',
    retryable: false,
    stored: 'no',
    hint: 'Another process uses this data folder; stop it first.',
  },
  FOREIGN_FOLDER: {
    number: 708,
    family: 'local',
    retryable: false,
    stored: 'no',
    hint: 'The data folder belongs to another node, group or cluster; nothing was touched.',
  },
  STORAGE_FAILED: {
    number: 709,
    family: 'local',
    retryable: false,
    stored: 'unknown',
    hint: 'A disk write or fsync failed; the node stopped. Check the disk before starting it again.',
  },
  NOT_BOOTSTRAPPED: {
    number: 710,
    family: 'local',
    retryable: false,
    stored: 'no',
    hint: 'The data folder is empty; start all initial replicas once with --bootstrap, or restore the folder.',
  },
} as const

export type ErrorCode = keyof typeof errorTable

/** Facts that travel with an error; each present only where it means something. */
export interface ErrorFacts {
  readonly leader?: { readonly node: string; readonly address: string }
  readonly term?: number
  readonly retryAfterMs?: number
  readonly minOffset?: number
  readonly maxOffset?: number
  /** What the SDK tried, one line per attempt. */
  readonly attempts?: readonly string[]
}

export class LedgerError extends Error {
  override readonly name = 'LedgerError'
  readonly code: ErrorCode
  readonly facts: ErrorFacts
  readonly #hint: string | undefined

  /** `hint`: instead of the one of the code, where the place that throws knows better what to do. */
  constructor(
    code: ErrorCode,
    message: string,
    facts: ErrorFacts = {},
    options?: { readonly cause?: unknown; readonly hint?: string },
  ) {
    super(message, options)
    this.code = code
    this.facts = facts
    this.#hint = options?.hint
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable
  }

  /** What is known of a message that was being sent when this happened. */
  get stored(): 'no' | 'unknown' {
    return errorTable[this.code].stored
  }

  get hint(): string {
    return this.#hint ?? errorTable[this.code].hint
  }
}

const codesByNumber = new Map<number, ErrorCode>(
  Object.entries<ErrorKind>(errorTable).map(([code, entry]) => [entry.number, code as ErrorCode]),
)

export function errorCodeOf(number: number): ErrorCode | undefined {
  return codesByNumber.get(number)
}

/** Any thrown value as a LedgerError; unknown ones become SYSTEM_ERROR with the value as cause. */
export function toLedgerError(error: unknown): LedgerError {
  if (error instanceof LedgerError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new LedgerError('SYSTEM_ERROR', message, {}, { cause: error })
}
