-- What a command's definition says beside its parameters: whether it may be sent, also while one is under way, and how
-- people are shown it.

SET LOCAL lock_timeout = '10s';

ALTER TABLE command_definitions
    ADD COLUMN active        boolean NOT NULL DEFAULT true,
    ADD COLUMN several       boolean NOT NULL DEFAULT true,
    ADD COLUMN show_in_panel boolean NOT NULL DEFAULT true,
    ADD COLUMN ask_again     boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN command_definitions.several IS 'Whether a device may have several that have not ended.';
COMMENT ON COLUMN command_definitions.show_in_panel IS 'Whether people see it among the buttons of a device.';
COMMENT ON COLUMN command_definitions.ask_again IS 'Whether people are asked once more before it is sent.';
COMMENT ON COLUMN command_definitions.fields IS 'Array of {name, type: string|integer|number|boolean, required, description, options: array of strings}.';
