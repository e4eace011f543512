/** Limits of names and messages, with RocketMQ's values where it has them. */
export const bodyBytesMax: number = 4 * 1024 * 1024
export const propertiesBytesMax: number = 32_767
export const propertiesCountMax: number = 128
export const recordsPerBatchMax: number = 1024
/** A batch the SDK fills by itself; a single message may be larger. */
export const batchBytesTarget: number = 256 * 1024
/** Largest batch a broker takes: a single message with all its parts. */
export const batchBytesMax: number = 4 * 1024 * 1024 + 64 * 1024
export const tagBytesMax: number = 255
export const keysCountMax: number = 64
export const keyBytesMax: number = 255
export const messageIdBytesMax: number = 34
export const messageGroupBytesMax: number = 64
/** A W3C traceparent of version 00 has 55. */
export const traceParentBytesMax: number = 64
export const bornHostBytesMax: number = 255
export const extensionsCountMax: number = 16
export const queuesPerTopicMax: number = 1024
/** Queues whose offsets are committed or fetched in one request. */
export const queuesPerRequestMax: number = 4096
export const topicNameLengthMax: number = 127
export const groupNameLengthMax: number = 120
/** Topics that one request to a namesrv may name. */
export const topicsPerRequestMax: number = 1000
