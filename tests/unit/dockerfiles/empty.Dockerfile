
# nothing yet

