"""Recurrent networks respond: the tangent of an LSTM, a GRU or an RNN is itself a recurrence, and a linear one."""
