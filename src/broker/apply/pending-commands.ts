/** Commands about messages that are stored and not visible yet: timers and half messages. */
import { messages, optionalMessage, type Schema, schema, uint } from '../../common/protobuf-schema.ts'
import { type SourceRecord, type TimerKey, timerKeySchema } from '../../message/extensions.ts'

/** Half messages whose transaction is rolled back, by its producer or because nobody knew of it for too long. */
export interface RollBack {
  readonly kind: 'roll_back'
  readonly sources: readonly SourceRecord[]
}

/** The producers of these half messages are asked now what became of their transactions; counted so as to end. */
export interface NoteChecks {
  readonly kind: 'note_checks'
  /** Log time between two questions, milliseconds. */
  readonly intervalMs: number
  readonly sources: readonly SourceRecord[]
}

/** A message that is not to be delivered after all. */
export interface RecallTimer {
  readonly kind: 'recall_timer'
  readonly topicId: number
  readonly queue: number
  readonly timer: TimerKey
}

/** No timer needs an entry up to this one any more: they were delivered, or carried behind it. */
export interface TimersCarried {
  readonly kind: 'timers_carried'
  readonly upTo: number
}

type Payload<Command> = Omit<Command, 'kind'>

const sourceSchema: Schema<SourceRecord> = schema<SourceRecord>({ index: uint(1), record: uint(2) })

export const rollBackSchema: Schema<Payload<RollBack>> = schema<Payload<RollBack>>({
  sources: messages(1, sourceSchema),
})

export const noteChecksSchema: Schema<Payload<NoteChecks>> = schema<Payload<NoteChecks>>({
  intervalMs: uint(1),
  sources: messages(2, sourceSchema),
})

const recallFields = schema<{ readonly topicId: number; readonly queue: number; readonly timer: TimerKey | null }>({
  topicId: uint(1),
  queue: uint(2),
  timer: optionalMessage(3, timerKeySchema),
})

const noTimer: TimerKey = { time: 0, index: 0, record: 0 }

export const recallTimerSchema: Pick<Schema<Payload<RecallTimer>>, 'write' | 'read'> = {
  write: (writer, command) => recallFields.write(writer, command),
  read: (reader) => {
    const { topicId, queue, timer } = recallFields.read(reader)
    return { topicId, queue, timer: timer ?? noTimer }
  },
}

export const timersCarriedSchema: Schema<Payload<TimersCarried>> = schema<Payload<TimersCarried>>({ upTo: uint(1) })
